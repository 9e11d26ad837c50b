"""The seal: what makes a batch finished. Readers ignore a batch without one."""

import hashlib
import json
import logging
from dataclasses import dataclass

from ssdnet_core.errors import SsdnetError
from tasks.batch import SEAL
from tasks.batch_results import BatchResults
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError
from tasks.stored_json import StoredJsonError, from_json, to_json

_log = logging.getLogger(__name__)


class SealConflictError(SsdnetError):
    """Another run sealed this batch first."""


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What a finished batch holds.

    Attributes
    ----------
    batch, fingerprint
        Its name, and its configuration's fingerprint.
    images, inspected, failed, defective
        Counts of the images that the last listing had.
    digest
        SHA-256 over every image's key, outcome and map: equal for equal results, whenever and wherever made.
    passing
        Number of failed images that may do better when tried again: the reason lay outside of the image.
    """

    batch: str
    fingerprint: str
    images: int
    inspected: int
    failed: int
    defective: int
    digest: str
    passing: int = 0


def make_seal(results: BatchResults) -> Seal:
    """Return the seal of a batch, every present image of which must have a record."""
    summary = results.summary
    digest = hashlib.sha256()
    for record in sorted(results.present, key=lambda record: record.key):
        line = [record.key, record.status, record.map_digest, record.defective, f"{record.score:.6g}"]
        digest.update((json.dumps(line) + "\n").encode())
    return Seal(
        batch=results.manifest.batch,
        fingerprint=results.manifest.fingerprint,
        images=summary.images,
        inspected=summary.inspected,
        failed=summary.failed,
        defective=summary.defective,
        digest=digest.hexdigest(),
        passing=sum(record.passing for record in results.failed),
    )


def read_seal(folder: Storage) -> Seal | None:
    """Return a batch's seal, or None if the batch is not finished."""
    try:
        return parse_seal(folder.read(SEAL), folder)
    except MissingObjectError:
        return None


def parse_seal(content: bytes, folder: Storage) -> Seal | None:
    """Return the seal that was read from a batch's folder; None, and a warning, if it is damaged."""
    try:
        return from_json(Seal, content)
    except StoredJsonError as error:
        _log.warning("%s is taken as unfinished: its %s is damaged: %s", folder.address, SEAL, error)
        return None


def break_seal(folder: Storage) -> None:
    """Mark a batch as unfinished: its results are about to change."""
    folder.delete(SEAL)


def set_seal(folder: Storage, seal: Seal) -> None:
    """Create the seal, by a conditional write.

    Raises
    ------
    SealConflictError
        If there is one already.
    """
    if not folder.create(SEAL, to_json(seal, indent=1)):
        raise SealConflictError(f"{folder.address} was sealed by another run meanwhile: its results stand")
