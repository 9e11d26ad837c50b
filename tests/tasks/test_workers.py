"""Workers come up beside their run, and only if it wants them."""

import logging
import os
import threading
import time
from contextlib import suppress
from functools import partial
from importlib import import_module

import psutil
import pytest
from distributed import Client, Future, Worker, wait
from distributed.comm.core import CommClosedError

import tasks.cluster
from tasks.cluster import ClusterError, Workers, dask_client
from tasks.local_workers import LocalWorker
from tasks.waiting import outcomes


def test_workers_that_nobody_wants_are_not_started():
    before = threading.active_count()
    with Workers("tcp://127.0.0.1:1"):
        pass
    assert threading.active_count() <= before


def test_what_keeps_workers_from_starting_is_told_to_who_wants_them_and_to_nobody_else(monkeypatch):
    monkeypatch.setattr("tasks.cluster.dask_client", partial(dask_client, timeout=1))
    with Workers("tcp://127.0.0.1:1") as crew:
        crew.start()
    with Workers("tcp://127.0.0.1:1") as crew:
        crew.start()
        with pytest.raises(ClusterError, match="no Dask scheduler"):
            _ = crew.client


@pytest.mark.slow
def test_workers_started_early_are_those_that_the_run_gets():
    with Workers(workers=1) as crew:
        starting = crew.start()
        client = crew.client
        assert client is starting.result()
        assert client is crew.client
        assert client.submit(len, "abc").result() == 3
    assert client.status == "closed"


def fill(dask_worker: Worker, *, limit: int) -> int:
    """Bring the worker to 88 % of its limit, as an allocator does that keeps what a large fit had."""
    import_module("ssdnet_core.groups")  # Which its preload is about to do.
    dask_worker.kept = b"1" * (int(0.88 * limit) - psutil.Process().memory_info().rss)
    return os.getpid()


@pytest.mark.slow
def test_a_worker_that_keeps_nine_tenths_of_its_memory_goes_on(monkeypatch):
    limit = 10**9
    monkeypatch.setattr(tasks.cluster, "local_workers", lambda *_, **__: (LocalWorker(memory_limit=limit),))
    with dask_client() as client:
        [process] = client.run(fill, limit=limit).values()
        # Dask looks ten times a second.
        time.sleep(1)
        assert client.submit(os.getpid).result(timeout=30) == process


def report_two_errors() -> None:
    log = logging.getLogger("distributed.worker")
    for error in (CommClosedError("the scheduler is gone"), OSError("the disk is full")):
        try:
            raise error
        except OSError:
            log.exception("in the worker")


@pytest.mark.slow
def test_a_worker_prints_no_trace_of_a_lost_connection_and_those_of_all_else(capfd):
    with dask_client(workers=1) as client:
        client.run(report_two_errors)
    printed = capfd.readouterr().err
    assert "the disk is full" in printed
    assert "the scheduler is gone" not in printed


@pytest.mark.slow
def test_a_result_that_is_under_way_when_the_run_ends_leaves_no_traceback(caplog):
    def collect(client: Client, future: Future) -> None:
        with suppress(Exception):
            list(outcomes(client, [future]))

    with dask_client(workers=1) as client:
        future = client.submit(os.urandom, 2 * 10**8)
        threading.Thread(target=collect, args=(client, future), daemon=True).start()
        wait(future)
        time.sleep(0.02)
    assert not [record for record in caplog.records if record.name == "tornado.application"]
