"""Which images an input holds: a listing, and the size of each image from its header."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

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


def list_images(source: Storage, pattern: str = "", *, outside: str = "") -> list[StoredObject]:
    """List the images of an input: by suffix, or by the glob; sorted by key. Hidden files and truth masks are left out.

    Parameters
    ----------
    source
        Folder or prefix.
    pattern
        Glob for the keys: ``*`` stays within one folder, ``**`` does not.
    outside
        Address of a folder to leave out: results written below the input are no input.

    Raises
    ------
    NothingToInspectError
        If there is no image.
    StorageError
        If the input cannot be listed.
    """
    objects = [entry for entry in source.list(pattern) if not _set_aside(entry.key)]
    if outside.startswith(source.address + "/"):
        below = outside[len(source.address) + 1 :] + "/"
        objects = [entry for entry in objects if not entry.key.startswith(below)]
    images = [entry for entry in objects if PurePosixPath(entry.key).suffix.lower() in SUFFIXES]
    if not images:
        where = f"{source.address}/{pattern}" if pattern else source.address
        raise NothingToInspectError(
            f"no image in {where}: {len(objects)} other files; images end in {', '.join(sorted(SUFFIXES))}"
        )
    return images


def discover(source: Storage, images: Iterable[StoredObject]) -> tuple[ImageEntry, ...]:
    """Read the header of each image; what cannot be read is noted in the entry's ``problem``."""
    images = list(images)
    entries: list[ImageEntry] = []
    for start in range(0, len(images), GROUP):
        group = images[start : start + GROUP]
        heads = source.read_many([image.key for image in group], end=HEADER_BYTES)
        for offset, image in enumerate(group):
            entries.append(_entry(source, image, index=start + offset, head=heads[image.key]))
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


def _set_aside(key: str) -> bool:
    folders = key.split("/")
    return TRUTH_FOLDER in folders[:-1] or any(part.startswith(".") for part in folders)
