"""The folder of a batch: what it is called, what lies in it, and which one belongs to an input and its settings."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from glob import has_magic
from pathlib import PurePosixPath

from ssdnet_core.errors import InvalidConfigError, SsdnetError, UsageError
from tasks.address import AddressError, lies_in
from tasks.keys import is_hidden
from tasks.manifest import Manifest, StoredOrigin
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError
from tasks.stored_json import NoJsonError, StoredJsonError, from_json

MANIFEST = "manifest.json"
MAPS = "maps.zarr"
RECORDS = "records"
LEASES = "leases"
REGIONS = "regions.parquet"
IMAGE_TABLE = "images.csv"
SEAL = "seal.json"
REPORT = "report"
GALLERY = f"{REPORT}/index.html"
TRENDS = "trends"
"""Folder beside the batches for what is drawn of many of them."""
TREND = "trend.json"
ALARM = "alarm.json"
NAME_PARTS = 3
MAX_NAME = 246
"""Characters of a batch's name: file systems take 255 bytes, and other settings append 9."""


class BatchConflictError(UsageError):
    """A batch's name is invalid, or another batch's."""


class DamagedBatchError(SsdnetError):
    """What is stored of a batch cannot be understood."""


def batch_name(address: str, pattern: str = "") -> str:
    """Return a batch's name after its input: the last three parts of its address, and what a pattern says in words.

    ``/data/carpet/test/defect`` gives ``carpet-test-defect``, ``s3://line-1/2026-11-22`` ``line-1-2026-11-22``, and
    ``*.png`` in ``/night`` ``night-png``.
    """
    parts = [part for part in PurePosixPath(address.split("://", 1)[-1]).parts if part != "/"]
    words = [word.strip("._") for word in re.split(r"[^A-Za-z0-9._]+", pattern)]
    text = "-".join([*parts[-NAME_PARTS:], *filter(None, words)])
    name = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:MAX_NAME] or "batch"
    return f"{name}-batch" if name == TRENDS else name


def check_batch_name(name: str) -> str:
    """Return the name if it can be a folder's on every storage.

    Raises
    ------
    BatchConflictError
        If it has other characters than letters, digits, dots, dashes, underscores, ``=`` and ``~``, or none, begins
        with a dot, a dash or ``~``, is longer than 246 characters, or is that of the folder beside all batches in which
        trends are drawn.
    """
    refused = re.search(r"[^A-Za-z0-9._=~-]", name)
    if not name:
        wrong = "is empty: give it one, or none with --batch, to have it named after the input"
    elif refused:
        wrong = f"has {refused[0]!r} in it: use letters from A to Z, digits, '.', '-', '_', '=' and '~' only"
    elif name[0] in ".-~":
        wrong = f"begins with {name[0]!r}: begin with a letter, a digit, '_' or '='"
    elif len(name) > MAX_NAME:
        wrong = f"has {len(name)} characters: give one of at most {MAX_NAME} with --batch"
    elif name == TRENDS:
        wrong = "is the folder in which the trends of all nights are drawn: give another one with --batch"
    else:
        return name
    raise BatchConflictError(f"batch name {name!r} {wrong}")


def folder_names(batch: str, fingerprint: str) -> tuple[str, str]:
    """Return the names a batch's folder may have: the plain one if its settings came first, else one beside it."""
    return batch, f"{batch}~{fingerprint[:8]}"


def read_manifest(folder: Storage) -> Manifest:
    """Return the manifest as it is stored in a batch's folder.

    Raises
    ------
    DamagedBatchError
        If it cannot be understood.
    """
    with _understood(folder):
        return Manifest.from_json(folder.read(MANIFEST))


@contextmanager
def _understood(folder: Storage) -> Iterator[None]:
    try:
        yield
    except NoJsonError as error:
        raise DamagedBatchError(
            f"{folder.address}/{MANIFEST} is damaged: {error}. Delete that file alone, and inspect again: it is made "
            "anew, and results are kept"
        ) from error
    except (StoredJsonError, InvalidConfigError) as error:
        raise DamagedBatchError(
            f"{folder.address}/{MANIFEST} is damaged, or of another version: {error}. Move {folder.address} away, "
            "and inspect again"
        ) from error


def open_batch(results: Storage, manifest: Manifest) -> Storage:
    """Find or found the batch's folder.

    A folder that holds other things than a batch is left alone, and so is one with the input in it: a run writes tables
    and deletes pictures of its own making, and would do so with files of those names.

    The plain name belongs to the settings that came first. Others, and the same ones in another version of the method,
    get ``NAME~FINGERPRINT`` beside it, so that they never overwrite earlier results.

    Raises
    ------
    BatchConflictError
        If the name is taken by a batch of another input, or by a folder of other things.
    AddressError
        If the address of the results is none that Zarr could write to.
    DamagedBatchError, StorageError
        If a batch that is there cannot be read.
    """
    if "::" in results.address:
        raise AddressError(f"results in {results.address}: '::' chains addresses for Zarr, give a folder without it")
    if not results.is_local and has_magic(results.address):
        raise AddressError(
            f"results in {results.address}: where Zarr deletes, *, ? and [ are a pattern, which maps of other batches "
            "may match: give a prefix without them"
        )
    for name in folder_names(manifest.batch, manifest.fingerprint):
        folder = results.below(name)
        try:
            # Read first: a store that does not know conditional writes would replace what is there.
            content = folder.read(MANIFEST)
        except MissingObjectError:
            _require_free(folder, manifest)
            if folder.create(MANIFEST, replace(manifest, batch=name).to_json()):
                return folder
            content = folder.read(MANIFEST)
        with _understood(folder):
            stored = from_json(StoredOrigin, content, others=True)
        if (stored.input, stored.pattern) != (manifest.input, manifest.pattern):
            raise BatchConflictError(
                f"batch {name!r} in {results.address} was made from {stored.input} {stored.pattern}".rstrip()
                + f", not from {manifest.input} {manifest.pattern}".rstrip()
                + ": give this one another name with --batch"
            )
        if stored.fingerprint == manifest.fingerprint:
            return folder
    raise BatchConflictError(
        f"batch {manifest.batch!r} exists with other settings: give this one another name with --batch"
    )


def _require_free(folder: Storage, manifest: Manifest) -> None:
    """Refuse a folder without a manifest unless it is empty, or a batch's whose manifest was lost."""
    if lies_in(manifest.input, folder.address):
        occupied = f"the images of {manifest.input} lie in {folder.address}"
    elif others := _other_things(folder):
        occupied = f"{folder.address} holds other things than a batch, as {others[0]}"
    else:
        return
    raise BatchConflictError(
        f"{occupied}: results would be mixed with them. Give the batch another name with --batch, or other --results"
    )


def _other_things(folder: Storage) -> list[str]:
    """Return the names of what lies in a folder, sorted; none if it is a batch's, or only hidden files are there."""
    if not folder.exists() or any(folder.exists(part) for part in (MANIFEST, LEASES, RECORDS)):
        return []
    there = (*(found.key for found in folder.list("*")), *folder.folders())
    return sorted(name for name in there if not is_hidden(name))
