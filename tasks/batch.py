"""A batch: the images of one input, where its results lie, and in which order its images come.

The order is fixed once an image is in the manifest: image *i* of the manifest is index *i* of every array.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from ssdnet_core.config import Config, parse_config
from ssdnet_core.errors import InvalidConfigError, SsdnetError, UsageError
from ssdnet_core.working_size import working_shape
from tasks.address import AddressError
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError
from tasks.stored_json import NoJsonError, StoredJsonError, from_json, to_json

MANIFEST = "manifest.json"
MAPS = "maps.zarr"
RECORDS = "records"
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


@dataclass(frozen=True, kw_only=True)
class ImageEntry:
    """One image of a batch.

    Attributes
    ----------
    index
        Its place in every array of the batch.
    key
        Path below the batch's input.
    etag, size
        Those of the object when it was listed; the ETag of its mask, if it has one, is appended.
    height, width
        In pixels, after orientation; 0 if the header could not be read.
    mask
        Key of its mask below the batch's masks, empty if it has none.
    problem
        Why the header could not be read, else empty.
    present
        Whether the last listing still had it.
    """

    index: int
    key: str
    etag: str
    size: int
    height: int = 0
    width: int = 0
    mask: str = ""
    problem: str = ""
    present: bool = True

    @property
    def image_etag(self) -> str:
        """ETag of the image alone; empty if it could not be read when it was listed."""
        return self.etag.partition("+")[0]

    @property
    def readable(self) -> bool:
        """Whether it and its mask, if any, could be read: what cannot is listed with an empty ETag."""
        return bool(self.image_etag) and not (self.mask and self.etag.endswith("+"))

    def is_lost_in(self, found: "ImageEntry") -> bool:
        """Whether it was readable and, in a later listing, is not, or only its mask has become unreadable."""
        without_mask = found.mask == self.mask and found.etag == joint_etag(self.image_etag, "")
        return self.readable and (not found.image_etag or without_mask)

    def working_shape(self, working_size: int) -> tuple[int, int]:
        """Return (h, w) of its anomaly map."""
        return working_shape((self.height, self.width), working_size=working_size)


def joint_etag(of_image: str, of_mask: str) -> str:
    """Return one ETag for both: a changed mask is a changed image."""
    return f"{of_image}+{of_mask}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The images of a batch, in their order, and the settings they are inspected with.

    Attributes
    ----------
    batch
        Name of the batch: the folder below the results.
    input
        Address of the folder or prefix that the keys lie below.
    pattern
        Glob that the keys match, empty for all images.
    config
        Settings of the method.
    entries
        Image *i* has index *i*.
    masks
        Address of the folder or prefix of the masks, empty if there are none.
    fingerprint
        The settings' fingerprint by the version of the method that founded the batch; by default ``config``'s now.
    """

    batch: str
    input: str
    pattern: str
    config: Config
    entries: tuple[ImageEntry, ...] = field(default=())
    masks: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self.config.fingerprint())

    @property
    def present(self) -> "tuple[ImageEntry, ...]":
        """The images that the last listing had."""
        return tuple(entry for entry in self.entries if entry.present)

    def to_json(self) -> bytes:
        """Serialise, with one line for each image."""
        head = {
            "batch": self.batch,
            "input": self.input,
            "pattern": self.pattern,
            "masks": self.masks,
            "fingerprint": self.fingerprint,
        }
        head_text = json.dumps({**head, "config": self.config.model_dump(mode="json")}, indent=1)
        lines = ",\n  ".join(to_json(entry).decode() for entry in self.entries)
        return f'{head_text[:-2]},\n "entries": [\n  {lines}\n ]\n}}\n'.encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Read what :meth:`to_json` wrote."""
        stored = from_json(_StoredManifest, content, others=True)
        return cls(**{**vars(stored), "config": parse_config(stored.config)})

    def merged(self, discovered: "tuple[ImageEntry, ...]") -> "Manifest":
        """Return the manifest with a new listing: known images keep their index, new ones follow in key order.

        An entry that has become unreadable stays as it was: what it lies on may come back, such as a mounted folder.
        """
        listed = {entry.key: entry for entry in discovered}

        def now(entry: ImageEntry) -> ImageEntry:
            found = listed.pop(entry.key, None)
            if found is None:
                return replace(entry, present=False)
            return replace(entry, present=True) if entry.is_lost_in(found) else replace(found, index=entry.index)

        known = [now(entry) for entry in self.entries]
        added = [replace(entry, index=len(known) + offset) for offset, entry in enumerate(listed.values())]
        return replace(self, entries=(*known, *added))


@dataclass(frozen=True, kw_only=True)
class _StoredOrigin:
    """What identifies a stored manifest's batch; without its settings, which this version may not know.

    The fingerprint is the stored one: made anew, it would let a later version of the method take over the batch.
    """

    input: str
    pattern: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class _StoredManifest(_StoredOrigin):
    batch: str
    masks: str
    config: dict[str, Any]
    entries: tuple[ImageEntry, ...]


def batch_name(address: str, pattern: str = "") -> str:
    """Return a batch's name after its input: the last three parts of its address, and what a pattern says in words.

    ``/data/carpet/test/defect`` gives ``carpet-test-defect``, ``s3://line-1/2026-11-22`` ``line-1-2026-11-22``, and
    ``*.png`` in ``/night`` ``night-png``.
    """
    parts = [part for part in PurePosixPath(address.split("://", 1)[-1]).parts if part != "/"]
    words = [word.strip("._") for word in re.split(r"[^A-Za-z0-9._]+", pattern)]
    text = "-".join([*parts[-NAME_PARTS:], *filter(None, words)])
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:MAX_NAME] or "batch"


def check_batch_name(name: str) -> str:
    """Return the name if it can be a folder's on every storage.

    Raises
    ------
    BatchConflictError
        If it has other characters than letters, digits, dots, dashes, underscores, ``=`` and ``~``, or none, begins
        with a dot, a dash or ``~``, or is longer than 246 characters.
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

    The plain name belongs to the settings that came first. Others, and the same ones in another version of the method,
    get ``NAME~FINGERPRINT`` beside it, so that they never overwrite earlier results.

    Raises
    ------
    BatchConflictError
        If the name is taken by a batch of another input.
    AddressError
        If the address of the results is none that Zarr could write to.
    DamagedBatchError, StorageError
        If a batch that is there cannot be read.
    """
    if "::" in results.address:
        raise AddressError(f"results in {results.address}: '::' chains addresses for Zarr, give a folder without it")
    for name in folder_names(manifest.batch, manifest.fingerprint):
        folder = results.below(name)
        try:
            # Read first: a store that does not know conditional writes would replace what is there.
            content = folder.read(MANIFEST)
        except MissingObjectError:
            if folder.create(MANIFEST, replace(manifest, batch=name).to_json()):
                return folder
            content = folder.read(MANIFEST)
        with _understood(folder):
            stored = from_json(_StoredOrigin, content, others=True)
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
