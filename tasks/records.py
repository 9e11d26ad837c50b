"""What is known of each image after its inspection: one small object each, written by the worker after the map.

A record is the proof that an image is done; a run that is killed at any moment goes on from the records.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ssdnet_core.regions import Region
from tasks.batch import RECORDS
from tasks.manifest import ImageEntry
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tasks.stored_json import StoredJsonError, from_json, to_json

WRITERS = 8
"""Threads that write records where the flow writes many: with an object store they mostly wait."""

Status = Literal["inspected", "failed"]


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """The outcome for one image.

    Attributes
    ----------
    index, key, etag
        As in the manifest's entry.
    fingerprint
        Fingerprint of the configuration.
    status
        ``inspected``, or ``failed`` with the reason in ``error``.
    lasting
        Whether the failure lies in the image itself, so that the same bytes and settings would fail again.
    score, defective, regions, regions_from
        As in :class:`ssdnet_core.Localization`.
    height, width
        Size of the image, upright; ``working_height`` and ``working_width`` are its map's.
    seconds
        CPU seconds of the localization; in a group its share.
    device
        The device that computed it.
    map_digest
        SHA-256 of the stored map's bytes.
    warnings
        Of the localization.
    """

    index: int
    key: str
    etag: str
    fingerprint: str
    status: Status
    error: str = ""
    lasting: bool = False
    score: float = 0.0
    defective: bool = False
    regions: tuple[Region, ...] = ()
    regions_from: float = 0.0
    height: int = 0
    width: int = 0
    working_height: int = 0
    working_width: int = 0
    seconds: float = 0.0
    device: str = ""
    map_digest: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def area(self) -> int:
        """Defective area in pixels of the original image."""
        return sum(region.area for region in self.regions)

    @property
    def inspected(self) -> bool:
        """Whether it has a map and a verdict."""
        return self.status == "inspected"

    @property
    def failed(self) -> bool:
        """Whether it could not be inspected."""
        return self.status == "failed"

    @property
    def passing(self) -> bool:
        """Whether it failed for a reason that does not lie in the image, and may pass."""
        return self.failed and not self.lasting

    def settles(self, entry: ImageEntry, *, fingerprint: str, retry_failed: bool = False) -> bool:
        """Whether this record makes another inspection of the entry needless."""
        same = (self.key, self.etag, self.fingerprint) == (entry.key, entry.etag, fingerprint)
        return same and (self.inspected or (self.lasting and not retry_failed))


def failed_record(entry: ImageEntry, reason: str, *, fingerprint: str, lasting: bool) -> ImageRecord:
    """Return the record of an image that could not be inspected."""
    return ImageRecord(
        index=entry.index,
        key=entry.key,
        etag=entry.etag,
        fingerprint=fingerprint,
        status="failed",
        error=reason,
        lasting=lasting,
        height=entry.height,
        width=entry.width,
    )


def write_record(folder: Storage, record: ImageRecord) -> None:
    """Write an image's record, replacing an earlier one."""
    folder.write(record_key(record.index), to_json(record))


def withdraw_records(folder: Storage, entries: Iterable[ImageEntry], *, fingerprint: str) -> None:
    """Overwrite the records of images that are about to be inspected anew with failures.

    Otherwise, if the inspection is interrupted between map and record, and the former image is then put back, the old
    record would vouch for the map of the other image.
    """
    reason = "its inspection was interrupted"
    withdrawn = [failed_record(entry, reason, fingerprint=fingerprint, lasting=False) for entry in entries]
    with ThreadPoolExecutor(WRITERS) as writers:
        # The first error is raised.
        for _ in writers.map(partial(write_record, folder), withdrawn):
            pass


def read_records(folder: Storage, entries: Iterable[ImageEntry]) -> dict[int, ImageRecord]:
    """Read the records there are, by index; one that is damaged, or of another version, counts as absent.

    Raises
    ------
    StorageError
        If the store does not give a record that it has: taken for absent, its image would be inspected again.
    """
    records = folder.below(RECORDS)
    try:
        present = {stored.key for stored in records.list()}
    except MissingObjectError:
        return {}
    wanted = [key for entry in entries if (key := _name(entry.index)) in present]
    found: dict[int, ImageRecord] = {}
    for content in records.read_many(wanted).values():
        if isinstance(content, MissingObjectError):
            continue  # Gone since the listing.
        if isinstance(content, StorageError):
            raise content
        try:
            record = from_json(ImageRecord, content)
        except StoredJsonError:
            continue  # The image is inspected again.
        found[record.index] = record
    return found


def unsettled(
    entries: Iterable[ImageEntry], records: Mapping[int, ImageRecord], *, fingerprint: str, retry_failed: bool = False
) -> list[ImageEntry]:
    """Return the images without a record, by index, that settles them (:meth:`ImageRecord.settles`)."""
    return [
        entry
        for entry in entries
        if (record := records.get(entry.index)) is None
        or not record.settles(entry, fingerprint=fingerprint, retry_failed=retry_failed)
    ]


def record_key(index: int) -> str:
    """Return where an image's record lies below its batch."""
    return f"{RECORDS}/{_name(index)}"


def _name(index: int) -> str:
    return f"{index:07d}.json"
