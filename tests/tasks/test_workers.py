"""Workers come up beside their run, and only if it wants them."""

import logging
import os
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib import import_module

import psutil
import pytest
from distributed import Client, Future, Worker, wait
from distributed.comm.core import CommClosedError

import tasks.cluster
from tasks.cluster import Cluster, ClusterError, dask_client
from tasks.fit_workers import FitWorkers
from tasks.local_workers import LocalWorker
from tests.conftest import free_port
from tests.dask_processes import dask_processes


def test_workers_that_nobody_wants_are_not_started():
    before = threading.active_count()
    with Cluster("tcp://127.0.0.1:1"):
        pass
    assert threading.active_count() <= before


def test_what_keeps_workers_from_starting_is_told_to_who_wants_them_and_to_nobody_else(monkeypatch):
    monkeypatch.setattr("tasks.cluster.dask_client", partial(dask_client, timeout=1))
    with Cluster("tcp://127.0.0.1:1") as cluster:
        cluster.start()
    with Cluster("tcp://127.0.0.1:1") as cluster:
        cluster.start()
        with pytest.raises(ClusterError, match="no Dask scheduler"):
            _ = cluster.client


@contextmanager
def without_workers(folder):
    with dask_processes(folder) as cluster:
        yield cluster.address


@contextmanager
def silent(folder):
    """A place that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def deserted(folder):
    yield f"tcp://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("scheduler", [silent, deserted, pytest.param(without_workers, marks=pytest.mark.slow)])
def test_who_leaves_does_not_wait_for_the_scheduler_or_its_workers(tmp_path, capfd, caplog, scheduler):
    with scheduler(tmp_path) as address:
        before = threading.active_count()
        with Cluster(address) as cluster:
            starting = cluster.start()
            with pytest.raises(TimeoutError):
                starting.result(timeout=1)
            left = time.monotonic()
        assert time.monotonic() - left < 5
        assert threading.active_count() <= before
    with pytest.raises(ClusterError, match=rf"ended before the Dask scheduler at {address} had a worker"):
        starting.result()
    assert not caplog.records
    assert not capfd.readouterr().err


@pytest.mark.slow
def test_a_scheduler_that_no_worker_joins_is_told_with_what_to_start(tmp_path):
    with without_workers(tmp_path) as address:
        expected = rf"at {address} has no worker after 1 s: start one with `dask worker {address} --nthreads 1`"
        with pytest.raises(ClusterError, match=expected), dask_client(address, timeout=1):
            pass


@pytest.mark.slow
def test_a_worker_that_joins_while_the_run_waits_is_taken(tmp_path):
    with dask_processes(tmp_path) as processes, Cluster(processes.address) as cluster:
        cluster.start()
        processes.add_worker("late")
        assert cluster.client.submit(len, "abc").result() == 3


def test_what_takes_connections_and_says_nothing_is_no_scheduler(tmp_path):
    expected = r"no Dask scheduler answers at .* within 1 s .*: what listens there .* says nothing"
    with silent(tmp_path) as address, pytest.raises(ClusterError, match=expected), dask_client(address, timeout=1):
        pass


def test_a_web_server_is_no_scheduler():
    def answer(listener):
        with closing(listener.accept()[0]) as connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        expected = rf"no Dask scheduler answers at {address} .*: what listens there is no Dask scheduler"
        with pytest.raises(ClusterError, match=expected), dask_client(address, timeout=5):
            pass


@pytest.mark.slow
def test_workers_started_early_are_those_that_the_run_gets():
    with Cluster(workers=1) as cluster:
        starting = cluster.start()
        client = cluster.client
        assert client is starting.result()
        assert client is cluster.client
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
            list(FitWorkers(client).outcomes({future: "work"}))

    with dask_client(workers=1) as client:
        future = client.submit(os.urandom, 2 * 10**8)
        threading.Thread(target=collect, args=(client, future), daemon=True).start()
        wait(future)
        time.sleep(0.02)
    assert not [record for record in caplog.records if record.name == "tornado.application"]
