"""From an image's key to the working image: read, decode, leave out what does not count, prepare."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ssdnet_core.config import Config
from ssdnet_core.errors import SsdnetError
from tasks.decoding import DecodedImage, DecodeError, IncompleteHeaderError, decode, read_header, require_size
from tasks.drawn_masks import white_pixels
from tasks.manifest import ImageEntry, joint_etag
from tasks.storage import Storage
from tasks.storage_answers import StorageError

if TYPE_CHECKING:
    from ssdnet_core.preparation import WorkingImage

HEADER_BYTES = 64 * 1024
"""Bytes that are read of an image whose header could not be read when it was listed."""


class MaskError(SsdnetError):
    """An image's mask is no mask for this image."""


def fetch(entry: ImageEntry, source: Storage, *, masks: Storage | None, config: Config) -> "WorkingImage":
    """Read an image and its mask, and bring them to the working size.

    Raises
    ------
    DecodeError, InvalidImageError, InvalidConfigError, MaskError
        If they cannot be inspected.
    StorageError
        If they cannot be read, or were replaced since they were listed, or the image could not be read then.
    """
    # torch takes seconds to import: the flow's process, which only hands images out, does without.
    from ssdnet_core.preparation import prepare

    require_size(entry.size)
    if entry.problem:
        _raise_if_unreadable(entry, source)
        # Without its size at the listing, the maps have no room for it.
        raise StorageError(f"{entry.key} can be read now, but could not be when listed ({entry.problem}): run again")
    image, left_out = decode_as_listed(entry.key, source, mask=entry.mask, masks=masks, etag=entry.etag)
    working = prepare(image.pixels, left_out, config=config)
    told = replace(working.preparation, not_finite=image.not_finite, reader_warnings=image.warnings)
    return replace(working, preparation=told)


def decode_as_listed(
    key: str, source: Storage, *, mask: str, masks: Storage | None, etag: str
) -> tuple[DecodedImage, npt.NDArray[np.bool_] | None]:
    """Return an image, and where its pixels do not count: transparent, not finite, or black in its mask.

    Parameters
    ----------
    key, source
        The image's key, and where it lies.
    mask, masks
        Key of its mask, and where the masks lie; empty and None if it has none.
    etag
        Of the image and its mask, as :class:`~tasks.manifest.ImageEntry` has it.

    Raises
    ------
    DecodeError
        If the image cannot be decoded.
    MaskError
        If :func:`~tasks.drawn_masks.white_pixels` cannot read the mask, with labels accepted.
    StorageError
        If they cannot be read, or were replaced: their result would be taken for that of what was listed.
    """
    (content, found), drawn = source.read_with_etag(key), None
    if mask and masks is not None:
        drawn, of_mask = masks.read_with_etag(mask)
        found = joint_etag(found, of_mask)
    if found != etag:
        which = key if drawn is None else f"{key} or its mask"
        raise StorageError(f"{which} was replaced since it was listed: run again")
    image = decode(content)
    if drawn is None:
        return image, image.mask
    try:
        black = ~white_pixels(drawn, shape=image.pixels.shape[:2], labels=True)
    except DecodeError as error:
        raise MaskError(f"its mask {mask}: {error}") from error
    return image, black if image.mask is None else black | image.mask


def _raise_if_unreadable(entry: ImageEntry, source: Storage) -> None:
    """Raise what is still wrong with an image that could not be read when it was listed; read as little as tells."""
    head = source.read_many([entry.key], end=HEADER_BYTES)[entry.key]
    if isinstance(head, StorageError):
        raise head
    try:
        read_header(head)
    except IncompleteHeaderError:
        decode(source.read(entry.key))
