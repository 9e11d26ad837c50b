"""Which images an input holds: a listing, and the size of each image from its header."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType

from ssdnet_core.errors import UsageError
from tasks.address import real_address
from tasks.batch import LEASES, MANIFEST, MAPS, REPORT
from tasks.decoding import SUFFIXES
from tasks.found_masks import FoundMasks, find_masks
from tasks.headers import read_headers
from tasks.keys import count_by_suffix, is_hidden, suffix_of, suffixes_of
from tasks.manifest import ImageEntry, joint_etag
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
        Numbers of other files, by suffix: some, as ``.heic``, may be images to their owner.
    masks
        Masks of these images, and those of none.
    """

    images: list[StoredObject]
    others: Mapping[str, int]
    masks: FoundMasks = field(default_factory=FoundMasks)

    def shows(self, entries: Iterable[ImageEntry]) -> bool:
        """Whether all these images are listed, they and their masks unchanged."""
        listed = {(entry.key, entry.etag) for entry in _entries(self.images, self.masks.of_images)}
        return all((entry.key, entry.etag) in listed for entry in entries)


def list_images(source: Storage, pattern: str = "", *, outside: Iterable[str] = ()) -> list[StoredObject]:
    """Return the images of an input, as :func:`list_input` does."""
    return list_input(source, pattern, outside=outside).images


def list_input(
    source: Storage, pattern: str = "", *, outside: Iterable[str] = (), masks: Storage | None = None
) -> Listing:
    """List the images of an input by suffix with their masks, and count what else the glob matches, if there is one.

    Hidden files and truth masks are neither listed nor counted. An image that a linked folder shows once more is listed
    under its own name only, if that is listed as well.

    Parameters
    ----------
    source
        Folder or prefix.
    pattern
        Glob for the keys: ``*`` stays within one folder, ``**`` does not.
    outside
        Addresses of folders to leave out, such as results below the input. ``masks`` and the galleries of other batches
        are left out in any case.
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
    left_out = [*outside, *([masks.address] if masks else [])]
    objects = _not_below(left_out, [entry for entry in everything if not _set_aside(entry.key)], source=source)
    batches = _batches_with_galleries(objects, source=source, pattern=pattern)
    objects = [entry for entry in objects if _folder_around(REPORT, entry.key) not in batches]
    images = [entry for entry in objects if _is_image(entry)]
    results = tuple(f"{batch}/" for batch in batches)
    others = [entry for entry in objects if not _is_image(entry) and not f"/{entry.key}".startswith(results)]
    if source.is_local:
        images, others = (_under_their_own_names(found, source) for found in (images, others))
    if not images:
        raise NothingToInspectError(_why_nothing(source, pattern, everything=everything, objects=objects))
    found = find_masks(images, masks, source=source) if masks else FoundMasks()
    return Listing(images, suffixes_of(entry.key for entry in others), found)


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
        By the keys of their images, as in :class:`FoundMasks`.
    known
        Entries of an earlier listing: the header of an image that has not changed since is not read again.
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


def _is_image(entry: StoredObject) -> bool:
    return suffix_of(entry.key) in SUFFIXES


def _not_below(folders: Iterable[str], objects: Iterable[StoredObject], *, source: Storage) -> list[StoredObject]:
    """Leave out what lies in one of these folders, given by their addresses."""
    here = _below(source)
    real = map(real_address, folders)
    left_out = tuple(folder.removeprefix(here) + "/" for folder in real if folder.startswith(here))
    return [entry for entry in objects if not entry.key.startswith(left_out)]


def _batches_with_galleries(objects: Sequence[StoredObject], *, source: Storage, pattern: str) -> set[str]:
    """Return the folders that hold results of ours, if a gallery may be among the objects."""
    if all(_folder_around(REPORT, entry.key) is None for entry in objects):
        return set()
    # A pattern may show a gallery's pictures, and not what tells that they are of one.
    return _batch_folders(source.list() if pattern else objects)


def _why_nothing(
    source: Storage, pattern: str, *, everything: Sequence[StoredObject], objects: Sequence[StoredObject]
) -> str:
    """Return in words that there is no image, what there is, and what would count.

    Parameters
    ----------
    everything
        All objects that the pattern matches.
    objects
        Those of them that are left when :func:`list_input` has set files aside.
    """
    if objects:
        by_suffix = count_by_suffix(suffixes_of(entry.key for entry in objects))
        holds = f"{counted(len(objects), 'other file')} ({by_suffix})"
    elif everything:
        holds = "all that is there is hidden, truth, masks or results"
    else:
        holds = f"nothing matches {pattern}" if pattern else "it is empty"
    advice = ""
    if "[" in pattern:
        advice = f"; {pattern} was read as a pattern: for a bracket write [[]"
    elif pattern and not objects:
        advice = "; a * stays in one folder, ** goes through those below as well"
    where = f"{source.address}/{pattern}" if pattern else source.address
    return f"no image in {where}: {holds}; images end in {', '.join(sorted(SUFFIXES))}{advice}"


def _under_their_own_names(images: Sequence[StoredObject], source: Storage) -> list[StoredObject]:
    """Leave out what a linked folder shows once more: ``latest/a.png`` beside ``2026-11-22/a.png``."""
    here = _below(source)
    own = {folder: real_address(source.path(folder)) for folder in {_folder(image.key) for image in images}}
    keys = {image.key for image in images}
    return [
        image
        for image in images
        if (key := f"{own[_folder(image.key)]}/{PurePosixPath(image.key).name}".removeprefix(here)) == image.key
        or key not in keys
    ]


def _folder(key: str) -> str:
    return str(PurePosixPath(key).parent)


def _below(source: Storage) -> str:
    return real_address(source.address).rstrip("/") + "/"


def _batch_folders(objects: Iterable[StoredObject]) -> set[str]:
    """Return the folders that hold results of ours, as :func:`_folder_around` names them."""
    manifests, maps, leases = (
        {_folder_around(name, entry.key) for entry in objects} for name in (MANIFEST, MAPS, LEASES)
    )
    return {folder for folder in manifests & (maps | leases) if folder is not None}


def _folder_around(name: str, key: str) -> str | None:
    """Return the path above the last part of a key that has this name; None if no part has it."""
    folder, found, _ = f"/{key}/".rpartition(f"/{name}/")
    return folder if found else None


def _set_aside(key: str) -> bool:
    folders = key.split("/")
    return TRUTH_FOLDER in folders[:-1] or is_hidden(key)
