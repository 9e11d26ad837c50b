"""From a user's image to the working image: checked, brought to the working size, standardised."""

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssdnet_core.blank import MARGIN, find_blank_ground
from ssdnet_core.config import Config
from ssdnet_core.devices import callers_state_aside
from ssdnet_core.errors import InvalidConfigError, InvalidImageError
from ssdnet_core.exposure import clipped_shares, commonest_share, grey_level, histograms, looked_at, range_over_iqr
from ssdnet_core.frame import NO_FRAME, find_frame, without_frame
from ssdnet_core.input_checks import check_image, check_values, countable
from ssdnet_core.light import contrast_in_light
from ssdnet_core.working_size import working_shape

MIN_COUNTED = 256
"""Fewest pixels that must count at the working size: medians of fewer say little."""

STD_FLOOR = 1e-3
"""Keeps the sensor noise of an almost constant image from being blown up to a texture."""

FAR_OFF = 1e3
"""Spreads from zero beyond which single precision would round an image's structure away."""

BELOW_BLACK = -0.1
"""In units of the range: so far does noise reach below zero where a dark image was subtracted. With values further
below, zero is not black, and frames are not looked for."""


@dataclass(frozen=True)
class Preparation:
    """What became of an image on its way to the working image; the verdict's warnings tell of it.

    Attributes
    ----------
    original_shape
        (H, W) of the image given.
    frame
        Widths in working pixels of strips that were found to be no part of the surface: top, bottom, left, right.
    blank
        Share of the image's pixels that are left out as blank ground, its selvage included, 0 to 1.
    not_finite
        Share of the image's pixels that its reader masked for being no number or infinite, 0 to 1.
    clipped
        Shares of those that count, the frame's not among them, with the darkest and with the brightest value of the
        channel where that share is largest, 0 to 1.
    commonest_share
        Share of the same pixels that have the commonest value of their channel, in the one that varies most, 0 to 1.
    range_over_iqr
        How many times the distance between the quartiles of its values, without the frame's, the range of all is, which
        the frame has a part in: beside a range so wide the surface is flat.
    constant
        Whether the valid pixels differ by no more than rounding (a standard deviation of a hundred-thousandth of the
        range at most), so that there is no structure to fit.
    seconds
        CPU seconds of the calling thread that it took.
    """

    original_shape: tuple[int, int]
    frame: tuple[int, int, int, int] = NO_FRAME
    blank: float = 0.0
    not_finite: float = 0.0
    clipped: tuple[float, float] = (0.0, 0.0)
    commonest_share: float = 0.0
    range_over_iqr: float = 0.0
    constant: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class WorkingImage:
    """The image as the network sees it.

    Attributes
    ----------
    pixels
        (C, h, w) float32: zero mean in each channel, standard deviation over all of 1, or less in an image of very
        low contrast; 0 where not valid.
    valid
        (1, h, w) float32, 1.0 where a pixel counts, else 0.0.
    mean, std
        (C, 1, 1) and (), what gives the image's own values back: ``pixels * std + mean``, in units of the full range.
        To the standard deviation a thousandth of the range is added.
    contrast
        (1, h, w) float32, :func:`ssdnet_core.light.contrast_in_light`; 1 where zero is not black.
    full_range
        The value of white: 255, 65535, or for floating point the spread of the image's values.
    grey_level
        The step between the image's own values (:func:`ssdnet_core.exposure.grey_level`), in units of ``pixels``.
    preparation
        What the pixels do not show any more.
    """

    pixels: Tensor
    valid: Tensor
    mean: Tensor
    std: Tensor
    contrast: Tensor
    full_range: float
    grey_level: float
    preparation: Preparation


@callers_state_aside()
def prepare(image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None, *, config: Config) -> WorkingImage:
    """Check an image and its mask, and bring them to the working size.

    Parameters
    ----------
    image
        (H, W) or (H, W, C) with C = 1 or 3; uint8, uint16, float32 or float64; both sides at least 32.
    mask
        (H, W) bool, True where a pixel does not count (missing, or outside the region of interest).
    config
        Its ``working_size``, ``border``, ``leave_out_frame`` and ``selvage``. What lies beside the surface is blank
        ground (:mod:`ssdnet_core.blank`), and strips along the border (:mod:`ssdnet_core.frame`).

    Raises
    ------
    InvalidImageError
        If the image or its mask is none of the above, or no pixel is left.
    InvalidConfigError
        If the settings are no :class:`Config`, or a masked block would fill the image.
    """
    started = time.thread_time()
    check_config(config)
    check_image(image)
    height, width = image.shape[:2]
    counted = countable((height, width), mask, border=config.border)
    check_values(image, counted)
    pixels = image if image.ndim == 3 else image[:, :, None]
    size = working_shape((height, width), working_size=config.working_size)
    _check_block(config.reconstruction.block, size)
    ground = None
    if config.leave_out_frame:
        ground = find_blank_ground(
            pixels,
            counted,
            margin=math.ceil(MARGIN * min(height, width) / min(size)),
            selvage=round(config.selvage * min(height, width)),
        )
    if ground is not None:
        counted &= ~ground
        if not counted.any():
            raise InvalidImageError(
                f"no pixel of the image is left to inspect: blank ground and a selvage of {config.selvage:g} of its "
                "short side take all of it: set a smaller selvage"
            )
    valid = torch.from_numpy(counted).float()[None, None]
    offset, full_range = _offset_and_range(pixels, counted)
    # A hidden value beyond single precision becomes infinite, and is never seen.
    with np.errstate(over="ignore"):
        near_zero = np.subtract(pixels, offset) if offset else pixels
        # With an axis in front before the channels are moved there: torch sees that they lie last, and keeps them so.
        colour = torch.from_numpy(np.array(near_zero[None], dtype=np.float32, order="C")).permute(0, 3, 1, 2)
    # In place: a large image would be copied three times. Hidden values (even NaN) must not leak out.
    colour = colour.div_(full_range).masked_fill_(valid == 0, 0.0)
    dark_is_zero = not offset and float(colour.min()) >= BELOW_BLACK
    colour, valid = _shrink(colour, valid, size=size)
    strips = NO_FRAME
    if config.leave_out_frame and dark_is_zero:
        # Bicubic shrinking undershoots beside a black edge.
        strips = find_frame(colour[0].clamp_min(0), valid[0])
    valid = without_frame(valid[0], strips)
    standardised, mean, std = _standardise(colour[0], valid)
    contrast = torch.ones_like(valid)
    if dark_is_zero:
        contrast = contrast_in_light(standardised, colour[0].mean(0, keepdim=True), valid=valid)
    values = looked_at(pixels, _without_strips(counted, strips, size=size))
    channels = histograms(values)
    preparation = Preparation(
        original_shape=(height, width),
        frame=strips,
        blank=float(ground.mean()) if ground is not None else 0.0,
        clipped=clipped_shares(channels),
        commonest_share=commonest_share(channels),
        range_over_iqr=range_over_iqr(values, full_range=_range_of_values(pixels, counted, full_range=full_range)),
        constant=not bool(standardised.any()),
        seconds=time.thread_time() - started,
    )
    return WorkingImage(
        standardised,
        valid,
        mean=mean + offset / full_range,
        std=std,
        contrast=contrast,
        full_range=full_range,
        grey_level=grey_level(channels, full_range=full_range) / float(std),
        preparation=preparation,
    )


def check_config(config: Config) -> None:
    """Raise :class:`~ssdnet_core.errors.InvalidConfigError` if the settings are no :class:`Config`."""
    if not isinstance(config, Config):
        raise InvalidConfigError(
            f"config is a {type(config).__name__}, no Config: pass Config().updated({{'fit.steps': 50}}), or "
            "ssdnet_core.config.parse_config(config) of nested dictionaries"
        )


def _check_block(block: int, size: tuple[int, int]) -> None:
    if 2 * block > min(size):
        raise InvalidConfigError(
            f"a masked block of {block} leaves no context in {size[1]} x {size[0]} working pixels: "
            f"set reconstruction.block <= {min(size) // 2}"
        )


def _offset_and_range(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return what is taken off the values so that single precision holds their structure, and the value of white."""
    if np.issubdtype(pixels.dtype, np.integer):
        return 0.0, float(np.iinfo(pixels.dtype).max)  # type: ignore[type-var]
    # Not those that were checked: the blank ground, left out since, may have had the extremes.
    values = pixels[counted]
    lowest, highest = float(values.min()), float(values.max())
    spread, largest = highest - lowest, max(abs(lowest), abs(highest))
    rounding = 1e-12 if pixels.dtype == np.float64 else 1e-6
    offset = lowest if abs(lowest) > FAR_OFF * spread else 0.0
    return offset, spread if spread > rounding * largest else max(1.0, largest)


def _range_of_values(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_], *, full_range: float) -> float:
    """Return the range of the values that count."""
    if np.issubdtype(pixels.dtype, np.floating):
        return full_range
    # Without a copy of what counts, which of a large image is gigabytes; where all does, in a fifth of the time.
    seen, white = counted.all() or counted[:, :, None], np.iinfo(pixels.dtype).max  # type: ignore[type-var]
    return float(np.max(pixels, where=seen, initial=0)) - float(np.min(pixels, where=seen, initial=white))


def _without_strips(
    counted: npt.NDArray[np.bool_], strips: tuple[int, int, int, int], *, size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Return which of the image's own pixels (H, W) count, less the strips that were found at the working size."""
    if strips == NO_FRAME:
        return counted
    top, bottom = (math.ceil(width * counted.shape[0] / size[0]) for width in strips[:2])
    left, right = (math.ceil(width * counted.shape[1] / size[1]) for width in strips[2:])
    return without_frame(torch.from_numpy(counted)[None], (top, bottom, left, right))[0].numpy()


def _shrink(colour: Tensor, valid: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if size == tuple(colour.shape[-2:]):
        return colour, valid
    weight = _resample(valid, size)
    kept = weight > 0.5
    # A weighted mean over the valid pixels in the filter's reach.
    return torch.where(kept, _resample(colour, size) / weight.clamp_min(0.5), 0.0), kept.float()


def _resample(values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(values, size=list(size), mode="bicubic", antialias=True, align_corners=False)


def _standardise(colour: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :class:`WorkingImage` calls pixels, mean and std."""
    if int(valid.sum()) < MIN_COUNTED:
        raise InvalidImageError(
            f"{int(valid.sum())} pixels count at the working size of {valid.shape[-1]} x {valid.shape[-2]}, "
            f"fewer than {MIN_COUNTED}: mask less, or set a smaller border or selvage"
        )
    count = valid.sum()
    mean = (colour * valid).sum((-2, -1), keepdim=True) / count
    centred = (colour - mean) * valid
    std = (centred.square().sum() / (count * colour.shape[0])).sqrt()
    # Less than a hundred-thousandth of the range is rounding, no structure.
    pixels = centred / (std + STD_FLOOR) if float(std) > 1e-5 else torch.zeros_like(centred)
    return pixels, mean, std + STD_FLOOR
