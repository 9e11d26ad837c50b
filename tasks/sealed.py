"""Reading a finished batch back."""

from ssdnet_core.errors import SsdnetError
from tasks.batch import MANIFEST, Manifest, read_manifest
from tasks.records import ImageRecord, read_records
from tasks.seal import read_seal
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
