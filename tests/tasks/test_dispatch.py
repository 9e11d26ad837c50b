"""Chunks, and what becomes of images that kill their workers, on real Dask worker processes."""

import os
import signal
import time
from dataclasses import dataclass, replace
from itertools import accumulate

import pytest
from distributed import Client, as_completed, get_task_stream, wait
from hypothesis import given
from hypothesis import strategies as st

import tasks.fit_workers
import tasks.local_workers
from tasks.cluster import ClusterError, able_workers, dask_client
from tasks.dispatch import (
    GROUPS_A_FUTURE,
    MAX_CHUNKS,
    Dispatch,
    SubmittedChunk,
    chunks,
    future_size,
    submit_chunk,
    try_suspects,
)
from tasks.fit_workers import FitWorkers
from tasks.manifest import ImageEntry
from tasks.maps import read_map
from tasks.measuring import JudgedImage, Measurement, measure_batch
from tasks.records import ImageRecord, read_records
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.truth import NightTruth
from tests.conftest import wait_for
from tests.dask_processes import dask_processes
from tests.tasks.prepared import DeadlyStorage, prepared


@given(st.integers(0, 20_000), st.integers(1, 1024), st.integers(1, 40))
def test_chunks_hold_every_image_once_in_order_are_few_and_have_work_for_every_worker(count, task, workers):
    entries = [ImageEntry(index=i, key=str(i), etag="", size=0) for i in range(count)]
    parts = list(chunks(entries, images_a_future=task, workers=workers))
    assert [entry for part in parts for entry in part] == entries
    assert len(parts) <= MAX_CHUNKS
    assert all(len(part) >= workers * task and len(part) % task == 0 for part in parts[:-1])


@given(st.integers(0, 20_000), st.integers(1, 40))
def test_images_fitted_singly_have_a_future_each(count, workers):
    assert future_size(count, group=1, workers=workers) == 1


def inspected(dispatch, entries, *, task=1):
    """Inspect the images of a single chunk."""
    collected = submit_chunk(dispatch, entries, images_a_future=task).collected()
    records = collected.records + try_suspects(dispatch, collected.suspects)
    return sorted(records, key=lambda record: record.index)


@given(st.integers(1, 20_000), st.integers(2, 256), st.integers(0, 40))
def test_a_future_takes_a_few_groups_and_no_worker_more_than_its_share(count, group, workers):
    size = future_size(count, group=group, workers=workers)
    assert 1 <= size <= GROUPS_A_FUTURE * group
    hands = max(1, workers)
    turns = -(-count // (size * hands))
    assert turns * size < count / hands + turns
    # Not more turns than the limit wants: long futures read one group beside the fit of another.
    assert turns == -(-count // (hands * GROUPS_A_FUTURE * group))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_an_image_that_kills_its_worker_is_set_aside_and_its_neighbours_are_inspected(tmp_path):
    inspection, entries = prepared(tmp_path, "a.png", "b.png", "c.png", "deadly.png", "e.png")
    deadly = replace(inspection, source=DeadlyStorage(inspection.source.url))
    announced = []
    with dask_client(workers=2) as client:
        records = inspected(Dispatch(FitWorkers(client), deadly, announce=announced.append), entries)
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
    """A source some of whose images show a fault of the program: what nobody has thought of."""

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        if key == "faulty.png":
            raise ZeroDivisionError("nobody has thought of it")
        if key == "leaving.png":
            raise GeneratorExit("no Exception")
        return super().read_with_etag(key)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("storage", "culprit", "named"),
    [
        (DeadlyStorage, "deadly.png", "killed the worker"),
        (FaultyStorage, "faulty.png", "ZeroDivisionError: nobody has thought of it"),
        (FaultyStorage, "leaving.png", "GeneratorExit: no Exception"),
    ],
)
def test_a_future_of_several_groups_loses_only_the_image_that_is_at_fault(tmp_path, storage, culprit, named):
    inspection, entries = prepared(tmp_path, *(f"{name}.png" for name in "abcdef"), culprit)
    inspection = replace(inspection, group=2)
    announced = []
    with dask_client(workers=2) as client:
        alone = inspected(Dispatch(FitWorkers(client), inspection), entries[:1])
        faulty = replace(inspection, source=storage(inspection.source.url))
        records = inspected(Dispatch(FitWorkers(client), faulty, announce=announced.append), entries, task=5)
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
@pytest.mark.usefixtures("forked_workers")
def test_the_image_of_a_future_that_kills_its_worker_is_found_by_halves(tmp_path, monkeypatch):
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(3)), "deadly.png")
    deadly = replace(inspection, source=DeadlyStorage(inspection.source.url), group=2)
    submitted, submit = [], Dispatch.submitted

    def counted(self, entries, **options):
        submitted.append(len(entries))
        return submit(self, entries, **options)

    monkeypatch.setattr(Dispatch, "submitted", counted)
    monkeypatch.setitem(tasks.local_workers.DASK_SETTINGS, "distributed.scheduler.allowed-failures", 0)
    with dask_client(workers=1) as client:
        records = inspected(Dispatch(FitWorkers(client), deadly), entries, task=4)
    assert [record.key for record in records if record.status == "failed"] == ["deadly.png"]
    assert [record.key for record in records] == [entry.key for entry in entries]
    assert submitted == [4, 2, 2, 1, 1]


@dataclass(frozen=True)
class OutOfReach(Storage):
    """A source that a broken worker cannot read."""

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        if "BROKEN" in os.environ:
            raise StorageError(f"cannot read {key}: no credentials")
        return super().read_with_etag(key)


@dataclass(frozen=True)
class PassingOutage(OutOfReach):
    """A source that gives no image at the first try, and at the second none until so many are asked for again."""

    at_once: int = 1

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "at_once": self.at_once}

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        if not self.below("asked").exists(key):
            self.below("asked").write(key, b"")
            raise StorageError(f"cannot read {key}: no connection")
        again = self.below("asked again")
        again.write(key, b"")
        wait_for(lambda: len(again.list()) >= self.at_once, what="another image", timeout=20)
        return super().read_with_etag(key)


def break_process() -> None:
    os.environ["BROKEN"] = "1"


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(("group", "task"), [(1, 1), (2, 4)])
def test_a_broken_worker_costs_no_image(tmp_path, group, task):
    inspection, entries = prepared(tmp_path, *(f"{number:02d}.png" for number in range(16)))
    inspection = replace(inspection, source=OutOfReach(inspection.source.url), group=group)
    announced = []
    with dask_client(workers=2) as client:
        client.run(break_process, workers=[next(iter(able_workers(client, {})))])
        records = inspected(Dispatch(FitWorkers(client), inspection, announce=announced.append), entries, task=task)
    assert [(record.index, record.status) for record in records] == [(index, "inspected") for index in range(16)]
    assert sorted(announced, key=lambda record: record.index) == records


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_images_that_fail_in_an_outage_are_tried_once_more_and_told_of_once(tmp_path, workers):
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(6)))
    outage = PassingOutage(inspection.source.url)
    inspection = replace(inspection, source=outage)
    announced = []
    with dask_client(workers=workers) as client:
        records = inspected(Dispatch(FitWorkers(client), inspection, announce=announced.append), entries)
        assert [record.status for record in records] == ["inspected"] * 6
        assert len(outage.below("asked again").list()) == 6
        assert sorted(announced, key=lambda record: record.index) == records
        client.run(break_process)
        [failed] = inspected(Dispatch(FitWorkers(client), inspection, announce=announced.append), entries[:1])
    assert (failed.status, failed.passing) == ("failed", True)
    assert announced[6:] == [failed]


@dataclass(frozen=True)
class MeetingStorage(Storage):
    """A source that has a fault at first, and then gives no image until all are asked for."""

    images: int = 2

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        asked = self.below("asked")
        if asked.create("fault", str(time.monotonic_ns()).encode()):
            raise ZeroDivisionError("nobody has thought of it")
        asked.write(key, b"")
        wait_for(lambda: len(asked.list()) == 1 + self.images, what="the other images", timeout=20)
        return super().read_with_etag(key)


@pytest.fixture
def client():
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        yield client


@pytest.mark.parametrize(("failed", "spared"), [((4, 1, 1), True), ((4, 2), True), ((4, 3), False)])
def test_a_worker_is_spared_if_another_failed_on_at_most_half_as_many_images(tmp_path, client, failed, spared):
    """Whatever their futures held: the first of them is one worker's, the others are another's."""
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(sum(failed))))
    outage = PassingOutage(inspection.source.url, at_once=1 if spared else 2)
    dispatch = Dispatch(FitWorkers(client), replace(inspection, source=outage))
    worse, better = able_workers(client, {})
    with get_task_stream(client) as tried:
        futures = {}
        for end, size in zip(accumulate(failed), failed, strict=True):
            part = entries[end - size : end]
            futures[dispatch.submitted(part, workers=[better if futures else worse])] = part
        records = SubmittedChunk(dispatch, futures).collected().records
    assert not futures, "else Dask repeats what it has done once a worker dies"
    assert [record.status for record in records] == ["inspected"] * len(entries)
    again = [task["worker"] for task in tried.data[len(failed) :]]
    assert len(again) == len(failed)
    assert set(again) == ({better} if spared else {worse, better})


def test_after_a_fault_the_images_of_a_future_are_tried_side_by_side(tmp_path, client):
    inspection, entries = prepared(tmp_path, "a.png", "b.png")
    inspection = replace(inspection, source=MeetingStorage(inspection.source.url))
    records = inspected(Dispatch(FitWorkers(client), inspection), entries, task=2)
    assert [(record.key, record.status, record.error) for record in records] == [
        ("a.png", "inspected", ""),
        ("b.png", "inspected", ""),
    ]


@dataclass(frozen=True)
class WorseAndWorse(Storage):
    """A source that is away at first, then shows a fault of the program, and is sound after that."""

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        if self.below("asked").create("once", str(time.monotonic_ns()).encode()):
            raise StorageError(f"cannot read {key}: no connection")
        if self.below("asked").create("twice", str(time.monotonic_ns()).encode()):
            raise ZeroDivisionError("nobody has thought of it")
        return super().read_with_etag(key)


def test_an_image_that_comes_to_a_fault_when_tried_elsewhere_is_tried_again_alone(tmp_path, client):
    inspection, entries = prepared(tmp_path, "a.png")
    inspection = replace(inspection, source=WorseAndWorse(inspection.source.url))
    [record] = inspected(Dispatch(FitWorkers(client), inspection), entries)
    assert (record.status, record.error) == ("inspected", "")


def test_an_image_to_try_elsewhere_goes_anywhere_once_the_other_workers_are_gone(tmp_path, client, monkeypatch):
    inspection, entries = prepared(tmp_path, "a.png")
    inspection = replace(inspection, source=PassingOutage(inspection.source.url))
    submitted = submit_chunk(Dispatch(FitWorkers(client), inspection), entries)
    wait(list(submitted.futures), timeout=60)
    monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 0.2)
    counts = iter([frozenset({"inproc://gone/1"})])
    monkeypatch.setattr(FitWorkers, "able", lambda workers: next(counts, able_workers(client, {})))
    [record] = submitted.collected().records
    assert record.status == "inspected"


def test_a_scheduler_that_goes_away_before_images_are_tried_once_more_is_named(tmp_path, client, monkeypatch):
    inspection, entries = prepared(tmp_path, "a.png", "b.png")
    inspection = replace(inspection, source=Storage(str(tmp_path / "gone")))

    submitted = submit_chunk(Dispatch(FitWorkers(client), inspection), entries)
    wait(list(submitted.futures), timeout=60)
    # As of a client that looks for its scheduler.
    monkeypatch.setattr(client, "status", "connecting")
    with pytest.raises(ClusterError, match=r"scheduler at .* went away: start it, and run again"):
        submitted.collected()


def test_a_client_that_has_given_its_scheduler_up_is_told_of_when_images_are_submitted_or_measured(tmp_path):
    inspection, entries = prepared(tmp_path, "a.png")
    image = JudgedImage(ImageRecord(index=0, key="a.png", etag="", fingerprint="f", status="inspected"))
    measurement = Measurement(inspection, NightTruth(inspection.source, "line"))
    # A default client that is closed within its block stays Dask's own for the tests that follow.
    client = Client(processes=False, n_workers=1, dashboard_address=None, set_as_default=False)
    client.close()
    for ask in (
        lambda: submit_chunk(Dispatch(FitWorkers(client), inspection), entries),
        lambda: measure_batch(client, [image], measurement=measurement),
    ):
        with pytest.raises(ClusterError, match=r"scheduler at .* went away: start it, and run again"):
            ask()


def test_results_that_are_here_count_though_their_worker_has_died_since(monkeypatch):
    tracking = []

    def kept(*futures, **options):
        tracking.append(as_completed(*futures, **options))
        return tracking[0]

    monkeypatch.setattr(tasks.fit_workers, "as_completed", kept)
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        workers = FitWorkers(client)
        waiting = {workers.submitted(abs, -number): number for number in range(8)}
        futures = list(waiting)
        arrivals = workers.outcomes(waiting)
        found = [next(arrivals)]
        wait_for(lambda: not tracking[0].futures, what="all results")
        client.sync(client.cluster.workers[0].close)
        wait_for(lambda: all(future.status == "lost" for future in futures), what="the loss to be known")
        found += arrivals
    assert sorted(found) == [(number, number) for number in range(8)]


@pytest.mark.slow
def test_futures_of_workers_that_are_gone_are_left_to_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 0.2)
    with dask_processes(tmp_path) as cluster:
        leaving = cluster.add_worker("leaving")
        cluster.add_worker("staying")
        with Client(cluster.address) as client:
            workers = [cluster.names(client)["leaving"]]
            done, left = (client.submit(time.sleep, seconds, workers=workers) for seconds in (0, 600))
            arrivals = FitWorkers(client).outcomes({done: "done", left: "left"}, workers=workers)
            assert next(arrivals) == ("done", None)
            cluster.kill(leaving)
            assert list(arrivals) == []


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_worker_killed_from_outside_costs_no_image(tmp_path):
    inspection, entries = prepared(tmp_path, *(f"{i}.png" for i in range(8)))
    with dask_client(workers=2) as client:
        [victim, *_] = client.run(os.getpid).values()
        os.kill(victim, signal.SIGSTOP)  # Or it may have done its share before it is killed.
        submitted = submit_chunk(Dispatch(FitWorkers(client), inspection), entries)
        os.kill(victim, signal.SIGKILL)
        records = submitted.collected().records
    assert [record.status for record in records] == ["inspected"] * 8


def test_a_scheduler_that_is_not_there_is_named():
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:1"), dask_client("tcp://127.0.0.1:1", timeout=1):
        pass
