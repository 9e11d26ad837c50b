"""Reading a finished batch back."""

from ssdnet_core.errors import SsdnetError
from tasks.batch import MANIFEST, RECORDS, SEAL, folder_names, read_manifest
from tasks.batch_results import BatchResults
from tasks.records import read_records, record_key
from tasks.seal import Seal, make_seal, read_seal
from tasks.storage import Storage

MOST_ASKED = 100
"""Folders at most that are asked whether they are batches."""


class NotSealedError(SsdnetError, ValueError):
    """The folder holds no finished batch."""


class LostRecordError(SsdnetError):
    """A finished batch lacks a record, or holds one that cannot be read."""


class ChangedBatchError(SsdnetError):
    """A run has inspected a batch anew since it was read, or is about to."""


class ChangedRecordsError(SsdnetError):
    """The records of a finished batch are not those that it was sealed with."""


def read_sealed(address: str) -> tuple[Storage, BatchResults, Seal]:
    """Return the folder of a sealed batch, what it came to, and its seal.

    Raises
    ------
    NotSealedError
        If there is none, or it is not finished.
    LostRecordError
        If an image that the last listing had has no record, or a damaged one.
    ChangedRecordsError, ChangedBatchError
        As :func:`check_records`.
    """
    folder = Storage(address)
    if not folder.exists(MANIFEST):
        raise NotSealedError(_no_batch(folder))
    seal = read_seal(folder)
    if seal is None:
        raise NotSealedError(f"{folder.address} is not finished: run its `ssdnet inspect` again first")
    manifest = read_manifest(folder)
    records = read_records(folder, manifest.entries)
    for entry in manifest.present:
        if entry.index not in records:
            raise LostRecordError(
                f"{folder.address}/{record_key(entry.index)}, the record of {entry.key}, is missing or damaged: "
                "run the batch's `ssdnet inspect` again, which inspects that image once more"
            )
    results = BatchResults(manifest, records)
    check_records(folder, results, seal=seal)
    return folder, results, seal


def _no_batch(folder: Storage) -> str:
    if not folder.exists():
        return f"there is no {folder.address}: give the folder of one batch, RESULTS/BATCH"
    names = folder.folders()[:MOST_ASKED]
    if batch := next((name for name in names if folder.exists(f"{name}/{MANIFEST}")), None):
        return f"{folder.address} is no batch, but holds batches: give one of them, as {folder.below(batch).address}"
    return f"{folder.address} holds no batch: give the folder of one batch, RESULTS/BATCH"


def check_seal(folder: Storage, seal: Seal | None) -> None:
    """Make sure that a batch still has the seal that it had before it was read.

    Raises
    ------
    ChangedBatchError
        If it has another one, or none.
    """
    if read_seal(folder) != seal:
        raise ChangedBatchError(
            f"{folder.address} was inspected anew meanwhile, or is now: run this again once it is sealed"
        )


def check_records(folder: Storage, results: BatchResults, *, seal: Seal) -> None:
    """Make sure that a finished batch still has the records that were sealed.

    Raises
    ------
    ChangedRecordsError
        If they differ: somebody has changed one since, or put back a part of an earlier batch.
    ChangedBatchError
        If they differ because a run inspects the batch anew.
    """
    if make_seal(results).digest == seal.digest:
        return
    check_seal(folder, seal)
    raise ChangedRecordsError(
        f"{folder.address} does not hold the results that were sealed: files in its {RECORDS} were changed since, as a "
        f"rule those that are newer than its {SEAL}. Put them back as they were, or delete them and run the batch's "
        "`ssdnet inspect` again, which inspects their images once more"
    )


def find_seal(results: Storage, batch: str, *, fingerprint: str) -> Seal | None:
    """Return the seal of a batch that was finished with these settings, wherever it lies; None if there is none."""
    seals = (read_seal(results.below(name)) for name in folder_names(batch, fingerprint))
    return next((seal for seal in seals if seal is not None and seal.fingerprint == fingerprint), None)
