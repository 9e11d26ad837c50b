"""Reading a finished batch back."""

from ssdnet_core.errors import SsdnetError
from tasks.batch import MANIFEST, Manifest, folder_names, read_manifest
from tasks.records import ImageRecord, read_records
from tasks.seal import Seal, read_seal
from tasks.storage import Storage


class NotSealedError(SsdnetError, ValueError):
    """The folder holds no finished batch."""


def read_sealed(address: str) -> tuple[Storage, Manifest, dict[int, ImageRecord]]:
    """Return the folder, the manifest and the records of a sealed batch.

    Raises
    ------
    NotSealedError
        If there is none, or it is not finished.
    """
    folder = Storage(address)
    if not folder.exists(MANIFEST):
        raise NotSealedError(f"{folder.address} holds no batch: give the folder of one batch, RESULTS/BATCH")
    if read_seal(folder) is None:
        raise NotSealedError(f"{folder.address} is not finished: run its `ssdnet inspect` again first")
    manifest = read_manifest(folder)
    return folder, manifest, read_records(folder, manifest.entries)


def find_seal(results: Storage, batch: str, *, fingerprint: str) -> Seal | None:
    """Return the seal of a batch that was finished with these settings, wherever it lies; None if there is none."""
    seals = (read_seal(results.below(name)) for name in folder_names(batch, fingerprint))
    return next((seal for seal in seals if seal is not None and seal.fingerprint == fingerprint), None)
