"""Which masks are of which images, by their names."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssdnet_core.errors import UsageError
from tasks.decoding import SUFFIXES
from tasks.keys import is_hidden, suffix_of, without_suffix
from tasks.storage import Storage, StoredObject
from tasks.storage_answers import StorageError
from tasks.words import counted

MOST_NAMED = 5
"""Keys at most that are named of many."""


class MasksError(StorageError, UsageError):
    """It is not clear which mask is of which image."""


@dataclass(frozen=True)
class FoundMasks:
    """The masks below a folder or prefix.

    Attributes
    ----------
    of_images
        Masks by the keys of their images; an image without one counts whole.
    others
        Sorted keys of the masks of no image: misnamed, of images that were not listed, or passed over for a mask with
        the image's very name. Hidden files are not masks.
    """

    of_images: Mapping[str, StoredObject] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def find_masks(images: Sequence[StoredObject], masks: Storage, *, source: Storage) -> FoundMasks:
    """Tell which masks below a folder or prefix are of which images.

    An image's mask has its very name, or else that with another suffix: ``holes/000.png`` for ``holes/000.jpg``.

    Parameters
    ----------
    source
        Where the images lie.

    Raises
    ------
    MasksError
        If no image has a mask, one has several, or the masks are the images.
    StorageError
        If the masks cannot be listed.
    """
    listed = {
        entry.key: entry for entry in masks.list() if suffix_of(entry.key) in SUFFIXES and not is_hidden(entry.key)
    }
    # Other files may have the same size and time, as from an archive: the first pair's bytes are compared.
    same = next((image.key for image in images if listed.get(image.key) == image), None)
    if same is not None and masks.read(same) == source.read(same):
        raise MasksError(f"the masks in {masks.address} are the images themselves: give the folder of their masks")
    alike: dict[str, list[StoredObject]] = defaultdict(list)
    for mask in listed.values():
        alike[without_suffix(mask.key)].append(mask)
    found = {}
    for image in images:
        candidates = [listed[image.key]] if image.key in listed else alike.get(without_suffix(image.key), [])
        if len(candidates) > 1:
            names = " and ".join(mask.key for mask in candidates)
            raise MasksError(f"{image.key} has several masks in {masks.address}, {names}: leave one of them")
        if candidates:
            found[image.key] = candidates[0]
    if not found:
        without = "the image has no mask" if len(images) == 1 else f"none of the {len(images)} images has a mask"
        raise MasksError(
            f"{without} in {masks.address}, which holds {counted(len(listed), 'mask')}: give the folder in which "
            "holes/000.png is the mask of the image holes/000.jpg"
        )
    used = {mask.key for mask in found.values()}
    return FoundMasks(found, others=tuple(key for key in listed if key not in used))


def masks_changed(former: str, masks: str) -> str:
    """Return in words that a batch's run before had other masks than this one; an empty address is none."""
    return f"the run before had {former or 'none'}, this one {masks or 'none'}: images with others are inspected anew"


def count_and_name(keys: Sequence[str]) -> str:
    """Return in words how many keys there are, and the first of them, as ``7: a.png, b.png, c.png, ...``."""
    return f"{len(keys)}: {', '.join(keys[:MOST_NAMED])}{', ...' if len(keys) > MOST_NAMED else ''}"
