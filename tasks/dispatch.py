"""Handing the images of a batch to the Dask workers, and collecting their records.

Each image is one plain Dask future; where images are fitted together, a few groups are one. So the flow learns exactly
which image failed, and how. What comes of a future says what follows:

- **Records**: done. An image that failed for a reason that may pass is tried once more, on other workers: a worker
  without credentials fails in milliseconds, so it is always free and takes most of the batch.
- **An unexpected error**: each image of the future is tried in one of its own, and fails if that does.
- **A dead worker**: an image that kills it (out of memory, a crash in native code) takes down whatever else that worker
  held or was to do next. All these futures are *suspects*, and tried again at the end, one by one with nothing else
  running, and halved until the culprit is alone: it fails, its neighbours are inspected.
- **Nothing**: workers may come and go; the run ends, saying what to do, only after minutes without any that could take
  the rest.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from distributed import Future, KilledWorker, get_worker

from tasks.fit_workers import FitWorkers
from tasks.inspection import Inspection, inspect_images
from tasks.manifest import ImageEntry
from tasks.records import ImageRecord, failed_record, write_record

Value = TypeVar("Value")

MAX_CHUNKS = 180
"""Prefect task runs of a run, beside the few of its other stages: beyond 200 in all, the server falls behind."""

MIN_CHUNK = 16

GROUPS_A_FUTURE = 4
"""Most groups in a future. With four, reading is hidden behind fits for three of them, and so is writing."""


@dataclass(frozen=True)
class Dispatch:
    """Who inspects the images of a batch, and how.

    Attributes
    ----------
    workers
        The workers that take the images.
    inspection
        What the workers are told beside the images.
    announce
        Called with each record as it arrives.
    """

    workers: FitWorkers
    inspection: Inspection
    announce: Callable[[ImageRecord], None] = lambda record: None

    def submitted(self, entries: Sequence[ImageEntry], *, workers: Collection[str] = ()) -> "Future[Attempt]":
        """Have a worker inspect images: any that can, or one of those named."""
        # The inspection goes along with every task: scattered data would be lost with the one worker that holds them.
        return self.workers.submitted(_attempt, entries, self.inspection, workers=workers)

    def settled(self, entry: ImageEntry, outcome: "Attempt | BaseException") -> ImageRecord:
        """Return the record of an image that had a future of its own; if that failed, write the record first."""
        if isinstance(outcome, Attempt):
            [record] = outcome.records
            return record
        if isinstance(outcome, KilledWorker):
            reason = "its inspection killed the worker, again when tried alone: too large for the worker's memory?"
        else:
            reason = f"{type(outcome).__name__}: {outcome}"
        record = failed_record(entry, reason, fingerprint=self.inspection.fingerprint, lasting=False)
        write_record(self.inspection.folder, record)
        return record


@dataclass(frozen=True)
class Attempt:
    """The records of a future's images, and the address of the worker that wrote them."""

    records: list[ImageRecord]
    worker: str


@dataclass(frozen=True)
class CollectedChunk:
    """What became of the images of a chunk.

    Attributes
    ----------
    records
        As they came.
    suspects
        Images without a record, by future: their worker died, and they or others may have killed it.
    """

    records: list[ImageRecord]
    suspects: list[tuple[ImageEntry, ...]]


def future_size(images: int, *, group: int, workers: int) -> int:
    """Return how many images a future stands for: one, or if they are fitted together a few groups.

    Each worker gets as many futures, of one size, so that none is idle at the end while another has groups left.
    """
    if group == 1:
        return 1
    turns = -(-images // (max(1, workers) * GROUPS_A_FUTURE * group))
    return max(1, -(-images // (max(1, workers) * max(1, turns))))


def chunks(images: Sequence[Value], *, images_a_future: int = 1, workers: int = 1) -> Iterator[tuple[Value, ...]]:
    """Cut a batch into chunks, each for one Prefect task run, with at least one future for each worker.

    Parameters
    ----------
    images_a_future
        As :func:`future_size` says.
    workers
        Number of workers that take them.
    """
    least = max(MIN_CHUNK, -(-len(images) // MAX_CHUNKS), workers * images_a_future)
    size = -(-least // images_a_future) * images_a_future
    for start in range(0, len(images), size):
        yield tuple(images[start : start + size])


def submit_chunk(dispatch: Dispatch, entries: Iterable[ImageEntry], *, images_a_future: int = 1) -> "SubmittedChunk":
    """Queue the images of a chunk; returns at once.

    Parameters
    ----------
    images_a_future
        As :func:`future_size` says.

    Raises
    ------
    ClusterError
        If the scheduler went away.
    """
    entries = tuple(entries)
    parts = [entries[start : start + images_a_future] for start in range(0, len(entries), images_a_future)]
    return SubmittedChunk(dispatch, {dispatch.submitted(part): part for part in parts})


def try_suspects(dispatch: Dispatch, suspects: Iterable[tuple[ImageEntry, ...]]) -> list[ImageRecord]:
    """Inspect the images whose workers died, once nothing else is running: one future at a time, halved if it fails.

    Returns
    -------
    list of ImageRecord
        Records of all these images; one that kills its worker even alone has failed.

    Raises
    ------
    ClusterError
        As :meth:`SubmittedChunk.collected`.
    """
    records: list[ImageRecord] = []
    waiting = sorted(suspects, key=lambda entries: entries[0].index, reverse=True)
    if len(waiting) == 1:
        waiting = _halves(waiting[0])  # There is no other that may have done it.
    while waiting:
        entries = waiting.pop()
        [(_, outcome)] = dispatch.workers.outcomes({dispatch.submitted(entries): entries})
        if isinstance(outcome, BaseException) and len(entries) > 1:
            waiting += _halves(entries)
            continue
        done = outcome.records if isinstance(outcome, Attempt) else [dispatch.settled(entries[0], outcome)]
        for record in done:
            dispatch.announce(record)
        records += done
    return records


class SubmittedChunk:
    """Images on their way to the workers; each comes to its record, or is set aside as a suspect.

    Attributes
    ----------
    futures
        The images of each future that is not done.
    """

    def __init__(self, dispatch: Dispatch, futures: "dict[Future[Attempt], tuple[ImageEntry, ...]]") -> None:
        self._dispatch = dispatch
        self.futures = futures
        self._records: list[ImageRecord] = []
        self._suspects: list[tuple[ImageEntry, ...]] = []
        self._faulty: list[ImageEntry] = []
        self._passing: dict[str, list[tuple[ImageEntry, ...]]] = defaultdict(list)

    def collected(self) -> CollectedChunk:
        """Wait for the images, and try again what may do better.

        Raises
        ------
        ClusterError
            If the scheduler went away, or no worker that can take an image has been there for `WORKERLESS_SECONDS`.
        """
        self._wait()
        self._try_elsewhere()
        self._try_singly()
        return CollectedChunk(self._records, self._suspects)

    def _wait(self) -> None:
        for entries, outcome in self._dispatch.workers.outcomes(self.futures):
            if isinstance(outcome, BaseException):
                self._set_aside(entries, outcome)
                continue
            self._settle(record for record in outcome.records if not record.passing)
            passing = {record.index for record in outcome.records if record.passing}
            if passing:
                self._passing[outcome.worker].append(tuple(entry for entry in entries if entry.index in passing))

    def _try_elsewhere(self) -> None:
        for entries, outcome in _tried_elsewhere(self._dispatch, self._passing):
            if isinstance(outcome, BaseException):
                self._set_aside(entries, outcome)
            else:
                self._settle(outcome.records)

    def _try_singly(self) -> None:
        futures = {self._dispatch.submitted([entry]): entry for entry in self._faulty}
        for entry, outcome in self._dispatch.workers.outcomes(futures):
            if isinstance(outcome, KilledWorker):
                self._set_aside((entry,), outcome)
            else:
                self._settle([self._dispatch.settled(entry, outcome)])

    def _settle(self, records: Iterable[ImageRecord]) -> None:
        for record in records:
            self._dispatch.announce(record)
            self._records.append(record)

    def _set_aside(self, entries: tuple[ImageEntry, ...], error: BaseException) -> None:
        # An unexpected error does not say which of the images it is of.
        if isinstance(error, KilledWorker):
            self._suspects.append(entries)
        else:
            self._faulty.extend(entries)


def _attempt(entries: Sequence[ImageEntry], inspection: Inspection) -> Attempt:
    return Attempt(inspect_images(entries, inspection), worker=get_worker().address)


def _tried_elsewhere(
    dispatch: Dispatch, again: Mapping[str, Sequence[tuple[ImageEntry, ...]]]
) -> Iterator[tuple[tuple[ImageEntry, ...], Attempt | BaseException]]:
    """Try images, given by the worker they failed on, once more: where few failed or, failing that, anywhere."""
    if not again:
        return
    waiting = [entries for failed in again.values() for entries in failed]
    images = {worker: sum(map(len, failed)) for worker, failed in again.items()}
    able = dispatch.workers.able()
    others = frozenset(worker for worker in able if 2 * images.get(worker, 0) <= max(images.values()))
    # No mere preference: an idle worker would steal them.
    rounds = [others, frozenset()] if others else [frozenset()]
    for workers in rounds:
        futures = {dispatch.submitted(entries, workers=workers): entries for entries in waiting}
        yield from dispatch.workers.outcomes(futures, workers=workers)
        waiting = list(futures.values())


def _halves(entries: tuple[ImageEntry, ...]) -> list[tuple[ImageEntry, ...]]:
    middle = len(entries) // 2
    return [half for half in (entries[middle:], entries[:middle]) if half]
