"""Which images an input holds: a listing, and the size of each image from its header."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from ssdnet_core.errors import UsageError
from tasks.batch import MANIFEST, MAPS, REPORT, ImageEntry, joint_etag
from tasks.decoding import SUFFIXES
from tasks.found_masks import FoundMasks, find_masks
from tasks.headers import read_headers
from tasks.keys import is_hidden, suffix_of
from tasks.lease import LEASES
from tasks.storage import Storage, StoredObject
from tasks.storage_answers import StorageError
from tasks.words import counted

TRUTH_FOLDER = "ground_truth"
"""Masks in MVTec-AD layout: no images to inspect."""


class NothingToInspectError(StorageError, UsageError):
    """The input holds no image."""


@dataclass(frozen=True)
class Listing:
    """What an input holds.

    Attributes
    ----------
    images
        Sorted by key.
    others
        How many other files there are, by suffix: what is no image for us may be one for its owner, as ``.heic``.
    masks
        Of the images.
    """

    images: list[StoredObject]
    others: Mapping[str, int]
    masks: FoundMasks = field(default_factory=FoundMasks)

    def shows(self, entries: Iterable[ImageEntry]) -> bool:
        """Whether all of these images and their masks are listed, as they are."""
        listed = {(entry.key, entry.etag) for entry in _entries(self.images, self.masks.of_images)}
        return all((entry.key, entry.etag) in listed for entry in entries)


def split_input(url: str) -> tuple[Storage, str]:
    """Return the folder or prefix of an input, and the glob below it (empty if there is none).

    ``night/*.png`` gives ``night`` and ``*.png``; a single image its folder and its name. On this machine, a
    name that exists as it stands is no glob, whatever brackets it has.

    Raises
    ------
    StorageError
        If it cannot be looked at.
    """
    storage = Storage(url)
    root = PurePosixPath(storage.root)
    # Asked first whether it exists, since that tells in words what cannot be looked at.
    if storage.is_local and storage.exists() and Path(root).is_file():
        return Storage(str(root.parent)), glob.escape(root.name)
    patterns = [
        part
        for part in (root, *root.parents)
        if glob.has_magic(part.name) and not (storage.is_local and Storage(str(part)).exists())
    ]
    if patterns:
        folder = patterns[-1].parent
        return Storage(str(folder) if storage.is_local else f"s3://{folder}"), str(root.relative_to(folder))
    if not storage.is_local and root.suffix.lower() in SUFFIXES:
        around = Storage(f"s3://{root.parent}")
        if isinstance(around.read_many([root.name], end=1)[root.name], bytes):
            return around, root.name
    return Storage(storage.address), ""


def list_images(source: Storage, pattern: str = "", *, outside: Iterable[str] = ()) -> list[StoredObject]:
    """Return the images of an input, as :func:`list_input` does."""
    return list_input(source, pattern, outside=outside).images


def list_input(
    source: Storage, pattern: str = "", *, outside: Iterable[str] = (), masks: Storage | None = None
) -> Listing:
    """List the images of an input by suffix with their masks, and count what else the glob matches, if there is one.

    Hidden files and truth masks are neither. An image that a linked folder shows once more is listed under its own
    name only, if that is listed as well.

    Parameters
    ----------
    source
        Folder or prefix.
    pattern
        Glob for the keys: ``*`` stays within one folder, ``**`` does not.
    outside
        Addresses of folders to leave out: results that lie below the input are no input, nor are masks. The galleries
        of other batches are left out wherever they lie.
    masks
        Folder or prefix of the masks.

    Raises
    ------
    NothingToInspectError
        If there is no image.
    MasksError
        As :func:`find_masks`.
    StorageError
        If the input or the masks cannot be listed.
    """
    everything = source.list(pattern)
    objects = [entry for entry in everything if not _set_aside(entry.key)]
    here = _real(source.address).rstrip("/") + "/"
    left_out = [*outside, *([masks.address] if masks else [])]
    below = tuple(folder.removeprefix(here) + "/" for folder in map(_real, left_out) if folder.startswith(here))
    objects = [entry for entry in objects if not entry.key.startswith(below)]
    batches: set[str] = set()
    if any(_folder_around(REPORT, entry.key) is not None for entry in objects):
        batches = _batch_folders(source.list() if pattern else objects)
        objects = [entry for entry in objects if _folder_around(REPORT, entry.key) not in batches]
    images = [entry for entry in objects if suffix_of(entry.key) in SUFFIXES]
    results = tuple(f"{batch}/" for batch in batches)
    others = [
        entry for entry in objects if suffix_of(entry.key) not in SUFFIXES and not f"/{entry.key}".startswith(results)
    ]
    if source.is_local:
        images, others = (_under_their_own_names(found, source) for found in (images, others))
    if not images:
        where = f"{source.address}/{pattern}" if pattern else source.address
        advice = ""
        if "[" in pattern:
            advice = f"; {pattern} was read as a pattern: for a bracket write [[]"
        elif pattern and not objects:
            advice = "; a * stays in one folder, ** goes through those below as well"
        if objects:
            by_suffix = count_by_suffix(Counter(suffix_of(entry.key) for entry in objects))
            holds = f"{counted(len(objects), 'other file')} ({by_suffix})"
        elif everything:
            holds = "all that is there is hidden, truth, masks or results"
        else:
            holds = f"nothing matches {pattern}" if pattern else "it is empty"
        raise NothingToInspectError(
            f"no image in {where}: {holds}; images end in {', '.join(sorted(SUFFIXES))}{advice}"
        )
    found = find_masks(images, masks, source=source) if masks else FoundMasks()
    return Listing(images, Counter(suffix_of(entry.key) for entry in others), found)


def count_by_suffix(others: Mapping[str, int]) -> str:
    """Return in words what :class:`Listing` counts, as ``3 .heic, 1 without a suffix``."""
    return ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items()))


def discover(
    source: Storage,
    images: Iterable[StoredObject],
    *,
    masks: Mapping[str, StoredObject] = MappingProxyType({}),
    known: Iterable[ImageEntry] = (),
) -> tuple[ImageEntry, ...]:
    """Read the header of each image; what cannot be read is noted in the entry's ``problem``.

    Parameters
    ----------
    masks
        Of images, as :class:`FoundMasks` has them.
    known
        Of an earlier listing: the header of an image that has not changed since is not read again.
    """
    entries = _entries(images, masks)
    earlier = {(entry.key, entry.etag): entry for entry in known if not entry.problem}
    unchanged = {
        entry.key: replace(entry, height=same.height, width=same.width)
        for entry in entries
        if (same := earlier.get((entry.key, entry.etag)))
    }
    read = {entry.key: entry for entry in read_headers(source, [e for e in entries if e.key not in unchanged])}
    sized = unchanged | read
    return tuple(sized[entry.key] for entry in entries)


def _entries(images: Iterable[StoredObject], masks: Mapping[str, StoredObject]) -> list[ImageEntry]:
    return [_entry(image, masks.get(image.key), index=index) for index, image in enumerate(images)]


def _entry(image: StoredObject, mask: StoredObject | None, *, index: int) -> ImageEntry:
    entry = ImageEntry(index=index, key=image.key, etag=image.etag, size=image.size)
    return replace(entry, mask=mask.key, etag=joint_etag(image.etag, mask.etag)) if mask else entry


def _under_their_own_names(images: Sequence[StoredObject], source: Storage) -> list[StoredObject]:
    """Leave out what a linked folder shows once more: ``latest/a.png`` beside ``2026-11-22/a.png``."""
    here = _real(source.address).rstrip("/") + "/"
    own = {folder: _real(source.path(folder)) for folder in {_folder(image.key) for image in images}}
    keys = {image.key for image in images}
    return [
        image
        for image in images
        if (key := f"{own[_folder(image.key)]}/{PurePosixPath(image.key).name}".removeprefix(here)) == image.key
        or key not in keys
    ]


def _folder(key: str) -> str:
    return str(PurePosixPath(key).parent)


def _real(address: str) -> str:
    # Not by Path.resolve, which fails at a link that leads to itself; reading or writing there tells of that.
    return address if "://" in address else os.path.realpath(address)


def _batch_folders(objects: Iterable[StoredObject]) -> set[str]:
    """Return the folders that hold results of ours, as :func:`_folder_around` names them."""
    manifests, maps, leases = (
        {_folder_around(name, entry.key) for entry in objects} for name in (MANIFEST, MAPS, LEASES)
    )
    return {folder for folder in manifests & (maps | leases) if folder is not None}


def _folder_around(name: str, key: str) -> str | None:
    """Return the folder in which a file or folder of this name leads to the key; None if there is none."""
    folder, found, _ = f"/{key}/".rpartition(f"/{name}/")
    return folder if found else None


def _set_aside(key: str) -> bool:
    folders = key.split("/")
    return TRUTH_FOLDER in folders[:-1] or is_hidden(key)
