"""Chunks, and what becomes of images that kill their workers, on real Dask worker processes."""

import os
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.batch import ImageEntry
from tasks.cluster import ClusterError, dask_client
from tasks.dispatch import GROUPS_A_TASK, MAX_CHUNKS, chunks, collect_chunk, submit_chunk, task_size
from tasks.maps import read_map
from tasks.records import read_records
from tasks.storage import Storage
from tests.tasks.prepared import prepared


@given(st.integers(0, 20_000), st.integers(1, 1024), st.integers(1, 40))
def test_chunks_hold_every_image_once_in_order_are_few_and_have_work_for_every_worker(count, task, workers):
    entries = [ImageEntry(index=i, key=str(i), etag="", size=0) for i in range(count)]
    parts = list(chunks(entries, task=task, workers=workers))
    assert [entry for part in parts for entry in part] == entries
    assert len(parts) <= MAX_CHUNKS
    assert all(len(part) >= workers * task and len(part) % task == 0 for part in parts[:-1])


@given(st.integers(0, 20_000), st.integers(1, 40))
def test_images_fitted_singly_have_a_future_each(count, workers):
    assert task_size(count, group=1, workers=workers) == 1


@given(st.integers(1, 20_000), st.integers(2, 256), st.integers(0, 40))
def test_a_future_takes_a_few_groups_and_no_worker_more_than_its_share(count, group, workers):
    size = task_size(count, group=group, workers=workers)
    assert 1 <= size <= GROUPS_A_TASK * group
    hands = max(1, workers)
    turns = -(-count // (size * hands))
    assert turns * size < count / hands + turns
    # Not more turns than the limit wants: long futures read one group beside the fit of another.
    assert turns == -(-count // (hands * GROUPS_A_TASK * group))


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


@dataclass(frozen=True)
class FaultyStorage(Storage):
    """A source one of whose images shows a fault of the program: what nobody has thought of."""

    def read(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        if key == "faulty.png":
            raise ZeroDivisionError("nobody has thought of it")
        return super().read(key, start=start, end=end)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("storage", "culprit", "named"),
    [
        (DeadlyStorage, "deadly.png", "killed the worker"),
        (FaultyStorage, "faulty.png", "ZeroDivisionError: nobody has thought of it"),
    ],
)
def test_a_future_of_several_groups_loses_only_the_image_that_is_at_fault(tmp_path, storage, culprit, named):
    inspection, entries = prepared(tmp_path, *(f"{name}.png" for name in "abcdef"), culprit)
    inspection = replace(inspection, group=2)
    announced = []
    with dask_client(workers=2) as client:
        alone = collect_chunk(
            client, submit_chunk(client, entries[:1], inspection), inspection, announce=lambda record: None
        )
        faulty = replace(inspection, source=storage(inspection.source.url))
        submitted = submit_chunk(client, entries, faulty, task=5)
        assert sorted(len(images) for images in submitted.futures.values()) == [2, 5]
        records = collect_chunk(client, submitted, faulty, announce=announced.append)
    assert [record.key for record in records] == [entry.key for entry in entries]
    [failed] = [record for record in records if record.status == "failed"]
    assert failed.key == culprit
    assert named in failed.error
    assert not failed.lasting
    assert sorted(announced, key=lambda record: record.index) == records
    # A worker that dies before its result is fetched has its images inspected again, to the same result.
    stored = [replace(record, seconds=0.0) for record in read_records(inspection.folder, entries).values()]
    assert stored == [replace(record, seconds=0.0) for record in records]
    assert records[0].score == pytest.approx(alone[0].score, abs=0.05)


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
