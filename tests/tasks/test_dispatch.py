"""Chunks, and what becomes of images that kill their workers, on real Dask worker processes."""

import os
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.batch import ImageEntry
from tasks.cluster import ClusterError, dask_client
from tasks.dispatch import MAX_CHUNKS, chunks, collect_chunk, submit_chunk
from tasks.maps import read_map
from tasks.storage import Storage
from tests.tasks.prepared import prepared


@given(st.integers(0, 20_000))
def test_chunks_hold_every_image_once_in_order_and_are_few(count):
    entries = [ImageEntry(index=i, key=str(i), etag="", size=0) for i in range(count)]
    parts = list(chunks(entries))
    assert [entry for part in parts for entry in part] == entries
    assert len(parts) <= MAX_CHUNKS


@dataclass(frozen=True)
class DeadlyStorage(Storage):
    """A source one of whose images ends the process that reads it: what running out of memory looks like."""

    def read(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        if key == "deadly.png":
            os._exit(1)
        return super().read(key, start=start, end=end)


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_set_aside_and_its_neighbours_are_inspected(tmp_path):
    inspection, entries = prepared(tmp_path, "a.png", "b.png", "c.png", "deadly.png", "e.png")
    deadly = replace(inspection, source=DeadlyStorage(inspection.source.url))
    announced = []
    with dask_client(workers=2) as client:
        records = collect_chunk(client, submit_chunk(client, entries, deadly), deadly, announce=announced.append)
    outcome = {record.key: record.status for record in records}
    assert outcome == dict.fromkeys(("a.png", "b.png", "c.png", "e.png"), "inspected") | {"deadly.png": "failed"}
    [failed] = [record for record in records if record.status == "failed"]
    assert "killed the worker" in failed.error
    assert not failed.lasting
    assert sorted(record.key for record in announced) == sorted(outcome)
    for record in records:
        if record.status == "inspected":
            assert read_map(inspection.folder, record).shape == (64, 64)


@pytest.mark.slow
def test_a_worker_killed_from_outside_costs_no_image(tmp_path):
    inspection, entries = prepared(tmp_path, *(f"{i}.png" for i in range(8)))
    with dask_client(workers=2) as client:
        submitted = submit_chunk(client, entries, inspection)
        [victim, *_] = client.run(os.getpid).values()
        os.kill(victim, 9)
        records = collect_chunk(client, submitted, inspection, announce=lambda record: None)
    assert [record.status for record in records] == ["inspected"] * 8


def test_a_scheduler_that_is_not_there_is_named():
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:1"), dask_client("tcp://127.0.0.1:1", timeout=1):
        pass
