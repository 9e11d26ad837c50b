"""From an image's key to the working image: read, decode, leave out what does not count, prepare."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ssdnet_core.config import Config
from ssdnet_core.errors import SsdnetError
from tasks.batch import ImageEntry
from tasks.decoding import DecodedImage, DecodeError, IncompleteHeaderError, decode, read_header, require_size
from tasks.storage import Storage, StorageError

if TYPE_CHECKING:
    from ssdnet_core.preparation import WorkingImage

HEADER_BYTES = 64 * 1024
"""That are read again of an image whose header was refused."""


class MaskError(SsdnetError):
    """An image's mask is no mask for this image."""


def fetch(entry: ImageEntry, source: Storage, *, masks: Storage | None, config: Config) -> "WorkingImage":
    """Read an image and its mask, and bring them to the working size.

    Raises
    ------
    DecodeError, InvalidImageError, InvalidConfigError, MaskError
        If they cannot be inspected.
    StorageError
        If they cannot be read, or the image could not be when it was listed, or had another size then.
    """
    # torch takes seconds to import: the flow's process, which only hands images out, does without.
    from ssdnet_core.preparation import prepare

    require_size(entry.size)
    if entry.problem:
        _raise_if_unreadable(entry, source)
        # Without its size at the listing, the maps have no room for it.
        raise StorageError(f"{entry.key} can be read now, but could not be when listed ({entry.problem}): run again")
    image = decode(source.read(entry.key))
    height, width = image.pixels.shape[:2]
    if (height, width) != (entry.height, entry.width):
        raise StorageError(
            f"{entry.key} was replaced during the run: {entry.width} x {entry.height} pixels when it was listed, "
            f"now {width} x {height}; run again"
        )
    working = prepare(image.pixels, left_out(image, entry.mask, masks=masks), config=config)
    if not image.not_finite:
        return working
    return replace(working, preparation=replace(working.preparation, not_finite=image.not_finite))


def _raise_if_unreadable(entry: ImageEntry, source: Storage) -> None:
    """Raise what is still wrong with an image that could not be read when it was listed; read as little as tells."""
    head = source.read_many([entry.key], end=HEADER_BYTES)[entry.key]
    if isinstance(head, StorageError):
        raise head
    try:
        read_header(head)
    except IncompleteHeaderError:
        decode(source.read(entry.key))


def left_out(image: DecodedImage, mask_key: str, *, masks: Storage | None) -> npt.NDArray[np.bool_] | None:
    """Return where pixels do not count: transparent ones, and those that the mask beside the image leaves black.

    Parameters
    ----------
    mask_key
        Of the image's mask, empty if it has none.
    masks
        Where the masks lie, if there are any.

    Raises
    ------
    MaskError
        If the mask cannot be decoded, is not of the image's size, has transparent pixels, or is more than 1 where it
        is brightest, but at most half of its type's highest value.
    """
    if not mask_key or masks is None:
        return image.mask
    try:
        decoded = decode(masks.read(mask_key))
    except DecodeError as error:
        raise MaskError(f"its mask {mask_key}: {error}") from error
    mask = decoded.pixels
    if mask.shape[:2] != image.pixels.shape[:2]:
        raise MaskError(
            f"its mask {mask_key} has {mask.shape[1]} x {mask.shape[0]} pixels, the image {image.pixels.shape[1]} x "
            f"{image.pixels.shape[0]}: make the mask of the image's own size, white where it is to be inspected"
        )
    if decoded.mask is not None:
        raise MaskError(
            f"its mask {mask_key} has transparent pixels: flatten it, white where it is to be inspected, else black"
        )
    grey: npt.NDArray[Any] = mask if mask.ndim == 2 else mask.max(axis=2)
    if np.issubdtype(grey.dtype, np.integer) and 1 < grey.max() <= np.iinfo(grey.dtype).max // 2:
        # A black mask that was saved as JPEG: its noise would be inspected.
        raise MaskError(
            f"its mask {mask_key} is {grey.max()} where it is brightest, of {np.iinfo(grey.dtype).max}: make it white "
            f"({np.iinfo(grey.dtype).max}) where the image is to be inspected"
        )
    black = grey.astype(np.float32) <= 0.5 * float(grey.max())
    return black if image.mask is None else black | image.mask
