"""Masks that somebody has drawn over an image, white and black: where to inspect, or what is defective."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.decoding import DecodeError, decode

GREYS, MOST_GREY = (0.125, 0.875), 0.5
"""Shares of a mask's brightest value between which a pixel is grey, and the largest share of grey pixels accepted: soft
edges are far less, photographs mostly more."""


def white_pixels(content: bytes, *, shape: tuple[int, ...], labels: bool) -> npt.NDArray[np.bool_]:
    """Return where a mask is white: (H, W) bool, above half of its brightest value, in any channel.

    Parameters
    ----------
    content
        Of the file.
    shape
        (H, W) of the image.
    labels
        Whether masks of 0 and 1, and of floating point, are accepted.

    Raises
    ------
    DecodeError
        If it cannot be decoded, is not of the image's size, has transparent pixels, is too dark where it is brightest
        (labels that are not taken, or a black mask with the noise of a JPEG), or is mostly grey, as a photograph.
    """
    decoded = decode(content)
    mask = decoded.pixels
    if mask.shape[:2] != shape:
        sizes = f"it has {mask.shape[1]} x {mask.shape[0]} pixels, its image {shape[1]} x {shape[0]}"
        turned = " (an image has the size to which its EXIF orientation turns it)" if mask.shape[1::-1] == shape else ""
        raise DecodeError(f"{sizes}{turned}: make them equal")
    # What is drawn with alpha may be what is meant, or all but that.
    if decoded.mask is not None:
        raise DecodeError("it has transparent pixels: flatten it to black and white")
    grey: npt.NDArray[Any] = mask if mask.ndim == 2 else mask.max(axis=2)
    brightest = grey.max()
    if np.issubdtype(grey.dtype, np.integer):
        full = np.iinfo(grey.dtype).max
        if (1 if labels else 0) < brightest <= full // 2:
            raise DecodeError(f"it is {brightest} where it is brightest, of {full}: make what it marks white ({full})")
    elif not labels:
        raise DecodeError(f"its values are {grey.dtype}: make it an 8-bit mask, black and white")
    relative = grey.astype(np.float32) / (float(brightest) or 1.0)
    between = float(np.mean((relative > GREYS[0]) & (relative < GREYS[1])))
    if between > MOST_GREY:
        raise DecodeError(f"{between:.0%} of its pixels are neither black nor white: is it a photograph?")
    return relative > 0.5
