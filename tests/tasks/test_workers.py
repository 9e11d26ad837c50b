"""Workers come up beside their run, and only if it wants them."""

import threading
from functools import partial

import pytest

from tasks.cluster import ClusterError, Workers, dask_client


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
