"""Opens a batch's Zarr store, and says in words what goes wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import zarr

from tasks.batch import MAPS, DamagedBatchError
from tasks.storage import Storage
from tasks.storage_answers import FAILURES, StorageError, reason_of

METADATA = "zarr.json"
MAPS_METADATA = f"{MAPS}/{METADATA}"

MOST_TOLD = 200
"""Characters of zarr's error, which may have all that is stored in it."""

DAMAGE = (ValueError, TypeError, AttributeError, LookupError)
"""What zarr raises at metadata that are no JSON, or none of its own."""


def open_store(folder: Storage, mode: Literal["r", "r+", "a"]) -> zarr.Group:
    """Open the store of a batch's folder.

    Raises
    ------
    DamagedBatchError
        If its metadata cannot be understood.
    """
    # Never by the consolidated metadata: those of an earlier seal hide the images that came later.
    store = folder.below(MAPS)
    with understood(store, advice="delete that object, and inspect again: it is written anew"):
        return zarr.open_group(store.address, mode=mode, use_consolidated=False, storage_options=store.options or None)


@contextmanager
def writing(folder: Storage, what: str) -> Iterator[None]:
    """Turn a failure to write in the block into a `StorageError` that says what and where."""
    try:
        yield
    except FAILURES as error:
        raise StorageError(f"cannot write {what} to {folder.address}/{MAPS}: {reason_of(error)}") from error


@contextmanager
def understood(store: Storage, *, advice: str) -> Iterator[None]:
    """Turn metadata that the block cannot understand into a `DamagedBatchError` that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise DamagedBatchError(f"{store.address}/{METADATA} is damaged: {error!r:.{MOST_TOLD}}: {advice}") from error
