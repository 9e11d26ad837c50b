"""Which images an input holds: a listing, and the size of each image from its header."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from tasks.batch import ImageEntry
from tasks.decoding import SUFFIXES, DecodeError, ImageHeader, IncompleteHeaderError, read_header
from tasks.storage import Storage, StorageError, StoredObject

HEADER_BYTES = 64 * 1024
"""The first request for a header; enough for all formats but a TIFF whose directory stands at its end."""

GROUP = 256
"""Headers read side by side."""


TRUTH_FOLDER = "ground_truth"
"""Masks in MVTec-AD layout: no images to inspect."""


class NothingToInspectError(StorageError):
    """The input holds no image."""


def split_input(url: str) -> tuple[Storage, str]:
    """Return the folder or prefix of an input, and the glob below it (empty if there is none).

    ``night/*.png`` gives ``night`` and ``*.png``; a single file its folder and its name.
    """
    storage = Storage(url)
    parts = PurePosixPath(storage.root).parts
    first_magic = next((place for place, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if storage.is_local and Path(storage.root).exists():
        first_magic = len(parts) - 1 if Path(storage.root).is_file() else None
    if first_magic is None:
        return Storage(storage.address), ""
    protocol = "" if storage.is_local else "s3://"
    return Storage(protocol + str(PurePosixPath(*parts[:first_magic]))), "/".join(parts[first_magic:])


def list_images(source: Storage, pattern: str = "", *, outside: Iterable[str] = ()) -> list[StoredObject]:
    """List the images of an input: by suffix, or by the glob; sorted by key. Hidden files and truth masks are left out.

    Parameters
    ----------
    source
        Folder or prefix.
    pattern
        Glob for the keys: ``*`` stays within one folder, ``**`` does not.
    outside
        Addresses of folders to leave out: results and masks that lie below the input are no input.

    Raises
    ------
    NothingToInspectError
        If there is no image.
    StorageError
        If the input cannot be listed.
    """
    objects = [entry for entry in source.list(pattern) if not _set_aside(entry.key)]
    below = tuple(
        folder[len(source.address) + 1 :] + "/" for folder in outside if folder.startswith(source.address + "/")
    )
    objects = [entry for entry in objects if not entry.key.startswith(below)]
    images = [entry for entry in objects if PurePosixPath(entry.key).suffix.lower() in SUFFIXES]
    if not images:
        where = f"{source.address}/{pattern}" if pattern else source.address
        raise NothingToInspectError(
            f"no image in {where}: {len(objects)} other files; images end in {', '.join(sorted(SUFFIXES))}"
        )
    return images


def list_masks(masks: Storage) -> dict[str, StoredObject]:
    """Return the masks below a folder or prefix, by the keys of their images without suffix.

    ``holes/000.png`` is the mask of ``holes/000.jpg``.
    """
    found = (entry for entry in masks.list() if PurePosixPath(entry.key).suffix.lower() in SUFFIXES)
    return {_without_suffix(entry.key): entry for entry in found}


def discover(
    source: Storage, images: Iterable[StoredObject], *, masks: Mapping[str, StoredObject] = MappingProxyType({})
) -> tuple[ImageEntry, ...]:
    """Read the header of each image; what cannot be read is noted in the entry's ``problem``.

    Parameters
    ----------
    masks
        As :func:`list_masks` returns them; an image without one counts whole.
    """
    images = list(images)
    entries: list[ImageEntry] = []
    for start in range(0, len(images), GROUP):
        group = images[start : start + GROUP]
        heads = source.read_many([image.key for image in group], end=HEADER_BYTES)
        for offset, image in enumerate(group):
            entry = _entry(source, image, index=start + offset, head=heads[image.key])
            mask = masks.get(_without_suffix(image.key))
            # One ETag for both: a changed mask is a changed image.
            entries.append(replace(entry, mask=mask.key, etag=f"{image.etag}+{mask.etag}") if mask else entry)
    return tuple(entries)


def _entry(source: Storage, image: StoredObject, *, index: int, head: bytes | StorageError) -> ImageEntry:
    entry = ImageEntry(index=index, key=image.key, etag=image.etag, size=image.size)
    try:
        if isinstance(head, StorageError):
            raise head
        header = _header(head, whole=lambda: source.read(image.key), complete=image.size <= len(head))
    except (DecodeError, StorageError) as error:
        return replace(entry, problem=str(error))
    return replace(entry, height=header.height, width=header.width)


def _header(head: bytes, *, whole: Callable[[], bytes], complete: bool) -> ImageHeader:
    try:
        return read_header(head)
    except IncompleteHeaderError:
        if complete:
            raise
        return read_header(whole())


def _without_suffix(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _set_aside(key: str) -> bool:
    folders = key.split("/")
    return TRUTH_FOLDER in folders[:-1] or any(part.startswith(".") for part in folders)
