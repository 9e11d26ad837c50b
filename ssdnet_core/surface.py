"""Which of an image's pixels are the surface under inspection, and their colour at the working size."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssdnet_core.blank import MARGIN, find_blank_ground
from ssdnet_core.config import Config
from ssdnet_core.devices import callers_state_aside
from ssdnet_core.errors import InvalidConfigError, InvalidImageError
from ssdnet_core.frame import NO_FRAME, find_frame, without_frame
from ssdnet_core.input_checks import check_config, check_image, check_values, countable
from ssdnet_core.working_size import working_shape

FAR_OFF = 1e3
"""Distance of the values from zero, in units of their range, beyond which single precision would round an image's
structure away."""

BELOW_BLACK = -0.1
"""Lowest value, in units of the range, with which zero is black: noise reaches so far below zero where a dark image was
subtracted. With values further below, zero is not black, and frames are not looked for."""

DEAD_SHARE = 1e-3
"""Share of the pixels that may lie below ``BELOW_BLACK`` although zero is black: dead pixels of a sensor."""

KEPT_ABOVE = 0.499
"""A working pixel counts if more than this share of what it is made of does. It is less than one half because with a
mask of every other row, or of a checkerboard, half counts everywhere, and rounding would decide."""

MOST_LOST_FACTOR = 4
"""Largest factor by which the share of pixels that count may fall in shrinking: beyond it the surface is lost."""


@dataclass(frozen=True, eq=False)
class Surface:
    """What of an image is to be inspected.

    Attributes
    ----------
    colour
        (C, h, w) float32 at the working size: the values less ``offset``, over ``full_range``.
    valid
        (1, h, w) float32, 1.0 where a working pixel counts, else 0.0.
    counted
        (H, W) bool, True where a pixel of the original image counts; pixels of the frame are not taken out.
    frame
        Widths in working pixels of strips that were found to be no part of the surface: top, bottom, left, right.
    blank
        Share of the image's pixels that are left out as blank ground, its selvage included, 0 to 1.
    offset
        What is taken off the values so that single precision holds their structure: 0 unless they lie far from zero.
    full_range
        The value of white: 255, 65535, or for floating point the spread of the image's values; of constant ones the
        largest magnitude, at least 1.
    dark_is_zero
        Whether zero is black, so that brightness is light.
    """

    colour: Tensor
    valid: Tensor
    counted: npt.NDArray[np.bool_]
    frame: tuple[int, int, int, int]
    blank: float
    offset: float
    full_range: float
    dark_is_zero: bool


@callers_state_aside()
def find_surface(image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None, *, config: Config) -> Surface:
    """Check an image and its mask, find what lies beside the surface, and bring it to the working size.

    Parameters, and all errors but for too few pixels, are those of :func:`ssdnet_core.preparation.prepare`.
    """
    check_config(config)
    check_image(image)
    height, width = image.shape[:2]
    counted = countable((height, width), mask, border=config.border)
    check_values(image, counted)
    pixels = image if image.ndim == 3 else image[:, :, None]
    size = working_shape((height, width), working_size=config.working_size)
    _check_block(config.reconstruction.block, size)
    ground = _blank_ground(pixels, counted, size=size, config=config) if config.leave_out_frame else None
    blank = 0.0
    if ground is not None:
        # Found ground grows into what was left out before.
        blank = float((counted & ground).mean())
        counted &= ~ground
        if not counted.any():
            raise InvalidImageError(
                f"no pixel of the image is left to inspect: blank ground and a selvage of {config.selvage:g} of its "
                "short side take all of it: set a smaller selvage"
            )
    valid = torch.from_numpy(counted).float()[None, None]
    offset, full_range = _offset_and_range(pixels, counted)
    # A hidden value beyond single precision becomes infinite, and is never seen; one too small becomes 0.
    with np.errstate(over="ignore", under="ignore"):
        near_zero = np.subtract(pixels, offset) if offset else pixels
        # With an axis in front before the channels are moved there: torch sees that they lie last, and keeps them so.
        colour = torch.from_numpy(np.array(near_zero[None], dtype=np.float32, order="C")).permute(0, 3, 1, 2)
    # In place: a large image would be copied three times. Hidden values (even NaN) must not leak out.
    colour = colour.div_(full_range)
    if not counted.all():
        colour.masked_fill_(valid == 0, 0.0)
    dark_is_zero = not offset and _reaches_down_to_black(colour, int(counted.sum()))
    colour, valid = _shrink(colour, valid, size=size)
    strips = NO_FRAME
    if config.leave_out_frame and dark_is_zero:
        # Bicubic shrinking undershoots beside a black edge.
        strips = find_frame(colour[0].clamp_min(0), valid[0])
    return Surface(
        colour[0],
        without_frame(valid[0], strips),
        counted=counted,
        frame=strips,
        blank=blank,
        offset=offset,
        full_range=full_range,
        dark_is_zero=dark_is_zero,
    )


def _check_block(block: int, size: tuple[int, int]) -> None:
    if 2 * block > min(size):
        raise InvalidConfigError(
            f"a masked block of {block} leaves no context in {size[1]} x {size[0]} working pixels: "
            f"set reconstruction.block <= {min(size) // 2 // 4 * 4}"
        )


def _blank_ground(
    pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_], *, size: tuple[int, int], config: Config
) -> npt.NDArray[np.bool_] | None:
    short = min(counted.shape)
    return find_blank_ground(
        pixels,
        counted,
        margin=math.ceil(MARGIN * short / min(size)),
        selvage=round(config.selvage * short),
    )


def _offset_and_range(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return what is taken off the values so that single precision holds their structure, and the value of white."""
    if np.issubdtype(pixels.dtype, np.integer):
        return 0.0, float(np.iinfo(pixels.dtype).max)  # type: ignore[type-var]
    # Not the extremes found when the values were checked: they may be the blank ground's, which is left out since.
    values = pixels[counted]
    lowest, highest = float(values.min()), float(values.max())
    spread, largest = highest - lowest, max(abs(lowest), abs(highest))
    rounding = 1e-12 if pixels.dtype == np.float64 else 1e-6
    offset = lowest if abs(lowest) > FAR_OFF * spread else 0.0
    return offset, spread if spread > rounding * largest else max(1.0, largest)


def _reaches_down_to_black(colour: Tensor, count: int) -> bool:
    """Return whether zero is black; (1, C, H, W) is in units of the range, and ``count`` of its pixels count."""
    # Mostly no value lies below, and the large image need not be compared. In memory the channels lie last.
    lowest = float(colour.movedim(1, -1).min())
    return lowest >= BELOW_BLACK or int((colour < BELOW_BLACK).any(1).sum()) <= DEAD_SHARE * count


def _shrink(colour: Tensor, valid: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if size == tuple(colour.shape[-2:]):
        return colour, valid
    weight = _resample(valid, size)
    kept = (weight > KEPT_ABOVE).float()
    before, after = float(valid.mean()), float(kept.mean())
    if MOST_LOST_FACTOR * after < before:
        raise InvalidImageError(
            f"what counts is too scattered or narrow to be shrunk: {before:.2%} of the image's pixels count, and "
            f"{after:.2%} at the working size of {size[1]} x {size[0]}: set working_size to the image's short side, "
            f"{min(valid.shape[-2:])}, or mask whole areas"
        )
    # A weighted mean over the valid pixels in the filter's reach.
    return torch.where(kept > 0, _resample(colour, size) / weight.clamp_min(KEPT_ABOVE), 0.0), kept


def _resample(values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(values, size=list(size), mode="bicubic", antialias=True, align_corners=False)
