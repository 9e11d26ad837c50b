"""Handing the images of a batch to the Dask workers, and collecting their records.

One plain Dask future an image: the flow learns exactly which image failed, and how. An image that kills its worker
(out of memory, a crash in native code) takes down whatever else that worker held, so each suspect is tried again
alone: the culprit is set aside, its neighbours are inspected.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from distributed import Client, Future, KilledWorker, as_completed

from tasks.batch import ImageEntry
from tasks.inspection import Inspection, inspect_image
from tasks.records import ImageRecord, failure, write_record

Announce = Callable[[ImageRecord], None]

MAX_CHUNKS = 200
"""A run's task runs: more than about this many, and the Prefect server falls behind."""

MIN_CHUNK = 16


@dataclass(frozen=True)
class SubmittedChunk:
    """Images on their way to the workers."""

    entries: tuple[ImageEntry, ...]
    futures: "dict[Future[ImageRecord], ImageEntry]"


def chunks(entries: Sequence[ImageEntry]) -> Iterator[tuple[ImageEntry, ...]]:
    """Cut a batch into the chunks of images that one Prefect task run stands for."""
    size = max(MIN_CHUNK, -(-len(entries) // MAX_CHUNKS))
    for start in range(0, len(entries), size):
        yield tuple(entries[start : start + size])


def submit_chunk(client: Client, entries: Iterable[ImageEntry], inspection: Inspection) -> SubmittedChunk:
    """Queue the images of a chunk; returns at once."""
    entries = tuple(entries)
    # The inspection goes along with every image: scattered data would be lost with the one worker that holds them.
    futures = {client.submit(inspect_image, entry, inspection, pure=False, retries=0): entry for entry in entries}
    return SubmittedChunk(entries=entries, futures=futures)


def collect_chunk(
    client: Client, chunk: SubmittedChunk, inspection: Inspection, *, announce: Announce
) -> list[ImageRecord]:
    """Wait for the images of a chunk and return their records, in the order of the manifest.

    Parameters
    ----------
    announce
        Called with each record as it arrives.
    """
    records: list[ImageRecord] = []
    suspects: list[ImageEntry] = []
    for future in as_completed(chunk.futures):
        entry = chunk.futures[future]
        record = _outcome(future, entry, inspection)
        if record is None:
            suspects.append(entry)
            continue
        announce(record)
        records.append(record)
    for entry in sorted(suspects, key=lambda entry: entry.index):
        record = _tried_alone(client, entry, inspection)
        announce(record)
        records.append(record)
    return sorted(records, key=lambda record: record.index)


def _outcome(future: "Future[ImageRecord]", entry: ImageEntry, inspection: Inspection) -> ImageRecord | None:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KilledWorker):
        return None
    return _failed(entry, f"{type(error).__name__}: {error}", inspection)


def _tried_alone(client: Client, entry: ImageEntry, inspection: Inspection) -> ImageRecord:
    future = client.submit(inspect_image, entry, inspection, pure=False, retries=0)
    record = _outcome(future, entry, inspection)
    reason = "its inspection killed the worker, again when tried alone: too large for the worker's memory?"
    return record or _failed(entry, reason, inspection)


def _failed(entry: ImageEntry, reason: str, inspection: Inspection) -> ImageRecord:
    record = failure(entry, reason, fingerprint=inspection.fingerprint, lasting=False)
    write_record(inspection.folder, record)
    return record
