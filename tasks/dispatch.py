"""Handing the images of a batch to the Dask workers, and collecting their records.

One plain Dask future an image: the flow learns exactly which image failed, and how. An image that kills its worker
(out of memory, a crash in native code) takes down whatever else that worker held, so each suspect is tried again
alone: the culprit is set aside, its neighbours are inspected. Workers may come and go; only when none has been there
for minutes that could take what is left does the run end, with what to do about it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from distributed import CancelledError, Client, Future, KilledWorker, wait

from tasks.batch import ImageEntry
from tasks.cluster import GPU, ClusterError, able_workers, scheduler_address
from tasks.inspection import Inspection, inspect_image
from tasks.records import ImageRecord, failure, write_record

Announce = Callable[[ImageRecord], None]

MAX_CHUNKS = 200
"""A run's task runs: more than about this many, and the Prefect server falls behind."""

MIN_CHUNK = 16

PATIENCE = 300.0
"""Seconds that images wait for a worker that can take them: as long as a machine takes to be replaced."""

LOOKED_AFTER = 5.0
"""Seconds without a finished image after which the workers are counted."""


@dataclass(frozen=True)
class SubmittedChunk:
    """Images on their way to the workers, and the Dask resources that each of them asks for."""

    entries: tuple[ImageEntry, ...]
    futures: "dict[Future[ImageRecord], ImageEntry]"
    resources: Mapping[str, float] = field(default_factory=dict)


def chunks(entries: Sequence[ImageEntry]) -> Iterator[tuple[ImageEntry, ...]]:
    """Cut a batch into the chunks of images that one Prefect task run stands for."""
    size = max(MIN_CHUNK, -(-len(entries) // MAX_CHUNKS))
    for start in range(0, len(entries), size):
        yield tuple(entries[start : start + size])


def submit_chunk(
    client: Client,
    entries: Iterable[ImageEntry],
    inspection: Inspection,
    *,
    resources: Mapping[str, float] | None = None,
) -> SubmittedChunk:
    """Queue the images of a chunk; returns at once.

    Parameters
    ----------
    resources
        What a worker must declare to take one, as :func:`tasks.cluster.fit_resources` says; by default nothing.
    """
    entries, resources = tuple(entries), dict(resources or {})
    futures = {_submitted(client, entry, inspection, resources): entry for entry in entries}
    return SubmittedChunk(entries=entries, futures=futures, resources=resources)


def collect_chunk(
    client: Client, chunk: SubmittedChunk, inspection: Inspection, *, announce: Announce
) -> list[ImageRecord]:
    """Wait for the images of a chunk and return their records, in the order of the manifest.

    Parameters
    ----------
    announce
        Called with each record as it arrives.

    Raises
    ------
    ClusterError
        If the scheduler went away, or no worker that can take an image has been there for ``PATIENCE`` seconds.
    """
    records: list[ImageRecord] = []
    suspects: list[ImageEntry] = []
    for future in _finished(client, chunk.futures, resources=chunk.resources):
        entry = chunk.futures[future]
        record = _outcome(future, entry, inspection)
        if record is None:
            suspects.append(entry)
            continue
        announce(record)
        records.append(record)
    for entry in sorted(suspects, key=lambda entry: entry.index):
        record = _tried_alone(client, entry, inspection, resources=chunk.resources)
        announce(record)
        records.append(record)
    return sorted(records, key=lambda record: record.index)


def _submitted(
    client: Client, entry: ImageEntry, inspection: Inspection, resources: Mapping[str, float]
) -> "Future[ImageRecord]":
    # The inspection goes along with every image: scattered data would be lost with the one worker that holds them.
    return client.submit(inspect_image, entry, inspection, pure=False, retries=0, resources=dict(resources) or None)


def _finished(
    client: Client, futures: "Collection[Future[ImageRecord]]", *, resources: Mapping[str, float]
) -> "Iterator[Future[ImageRecord]]":
    """Yield futures as they finish. Dask itself would wait for a worker for ever."""
    waiting = set(futures)
    seen = time.monotonic()
    while waiting:
        try:
            done, waiting = _wait(waiting)
            able = done or able_workers(client, resources)
        except (CancelledError, OSError) as error:
            raise ClusterError(
                f"the Dask scheduler at {scheduler_address(client)} went away while {len(waiting)} images of this "
                "chunk were under way: start it, and run again to go on"
            ) from error
        if able:
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE:
            raise ClusterError(_deserted(client, len(waiting), resources))
        yield from done


def _wait(futures: "set[Future[ImageRecord]]") -> "tuple[set[Future[ImageRecord]], set[Future[ImageRecord]]]":
    try:
        return wait(futures, timeout=LOOKED_AFTER, return_when="FIRST_COMPLETED")
    except TimeoutError:
        return set(), futures


def _deserted(client: Client, images: int, resources: Mapping[str, float]) -> str:
    kind, option = ("worker with a GPU", " --resources GPU=1") if GPU in resources else ("worker", "")
    return (
        f"{images} images of this chunk wait, and for {PATIENCE:.0f} s there has been no {kind}: start one with "
        f"`dask worker {scheduler_address(client)} --nthreads 1{option}`"
        + (", or set device to cpu" if option else "")
        + ", and run again to go on"
    )


def _outcome(future: "Future[ImageRecord]", entry: ImageEntry, inspection: Inspection) -> ImageRecord | None:
    error = future.exception()
    if error is None:
        return _result(future, entry)
    if isinstance(error, KilledWorker):
        return None
    return _failed(entry, f"{type(error).__name__}: {error}", inspection)


def _result(future: "Future[ImageRecord]", entry: ImageEntry) -> ImageRecord:
    try:
        return future.result(timeout=PATIENCE)
    except TimeoutError as error:  # Its worker went away before it handed the record over, and nobody came instead.
        raise ClusterError(
            f"the worker that inspected {entry.key} went away with its record: run again to go on"
        ) from error


def _tried_alone(
    client: Client, entry: ImageEntry, inspection: Inspection, *, resources: Mapping[str, float]
) -> ImageRecord:
    future = _submitted(client, entry, inspection, resources)
    [future] = _finished(client, [future], resources=resources)
    record = _outcome(future, entry, inspection)
    reason = "its inspection killed the worker, again when tried alone: too large for the worker's memory?"
    return record or _failed(entry, reason, inspection)


def _failed(entry: ImageEntry, reason: str, inspection: Inspection) -> ImageRecord:
    record = failure(entry, reason, fingerprint=inspection.fingerprint, lasting=False)
    write_record(inspection.folder, record)
    return record
