"""From a user's image to the working image: checked, brought to the working size, standardised."""

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssdnet_core.config import Config
from ssdnet_core.devices import callers_state_aside
from ssdnet_core.errors import InvalidImageError
from ssdnet_core.exposure import (
    clipped_shares,
    commonest_share,
    grey_level,
    histograms,
    looked_at,
    range_over_channel,
    range_over_iqr,
)
from ssdnet_core.filters import GRID, share_of
from ssdnet_core.frame import NO_FRAME, without_frame
from ssdnet_core.light import FALLOFF_DEGREE, FALLOFF_RADIAL, contrast_in_light
from ssdnet_core.robust import enough_seen
from ssdnet_core.sensor_noise import NO_NOISE, WhiteNoise, with_weaker_noise
from ssdnet_core.small_region import Box, box_of_what_counts
from ssdnet_core.surface import Surface, find_surface
from ssdnet_core.working_size import MIN_SIDE

MIN_COUNTED = 256
"""Fewest pixels that must count at the working size: medians of fewer say little."""

STD_FLOOR = 1e-3
"""Keeps the sensor noise of an almost constant image from being blown up to a texture."""

ROUNDING = 1e-5
"""Differences, in units of the range, up to which values differ by rounding and have no structure."""


@dataclass(frozen=True)
class Preparation:
    """What became of an image on its way to the working image; the verdict's warnings tell of it.

    Attributes
    ----------
    original_shape
        (H, W) of the image given.
    box
        The part of the image at its working size on which everything after the preparation is done.
    frame
        Widths in working pixels of strips that were found to be no part of the surface: top, bottom, left, right.
    blank
        Share of the image's pixels that are left out as blank ground, its selvage included, 0 to 1.
    not_finite
        Share of the image's pixels that its reader masked for being no number or infinite, 0 to 1.
    reader_warnings
        Warnings of the image's reader, for example that a file is compressed too strongly.
    clipped
        Of the pixels that count outside the frame, the shares with the darkest and with the brightest value of a
        channel, each in the channel where it is largest, 0 to 1.
    commonest_share
        Share of the same pixels that have a channel's commonest value, in the channel where it is smallest, 0 to 1.
    range_over_iqr
        Range of all values that count divided by the interquartile range of those outside the frame; beside a very wide
        range the surface is flat.
    range_over_channel
        The same range, of values in floating point, divided by the widest that a channel has of its own; 0 in grey and
        where no channel varies. Beside channels with far-apart offsets the surface is flat as well.
    scattered
        Whether the valid pixels lie too scattered for the scores of local energy and local colour, which are then left
        out (:func:`ssdnet_core.robust.enough_seen`).
    constant
        Whether the valid pixels differ by no more than rounding (a standard deviation of a hundred-thousandth of the
        range at most), so that there is no structure to fit.
    noise
        White noise in the working image.
    seconds
        CPU seconds of the calling thread that the preparation took.
    """

    original_shape: tuple[int, int]
    box: Box
    frame: tuple[int, int, int, int] = NO_FRAME
    blank: float = 0.0
    not_finite: float = 0.0
    reader_warnings: tuple[str, ...] = ()
    clipped: tuple[float, float] = (0.0, 0.0)
    commonest_share: float = 0.0
    range_over_iqr: float = 0.0
    range_over_channel: float = 0.0
    scattered: bool = False
    constant: bool = False
    noise: WhiteNoise = NO_NOISE
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class WorkingImage:
    """The image as the network sees it: (h, w) is its working size, or the size of the box if little counts.

    Attributes
    ----------
    pixels
        (C, h, w) float32, the image over ``falloff``: the mean of each channel is 0 (nearly, where noise was weakened),
        the standard deviation of all channels together 1, or less in an image of very low contrast; 0 where not valid.
    valid
        (1, h, w) float32, 1.0 where a pixel counts, else 0.0.
    mean, std
        (C, 1, 1) and (): ``(pixels * std + mean) * falloff`` gives the image's own values back, less what was taken off
        its noise, in units of the full range. ``std`` is the standard deviation of what is left, plus a
        thousandth of the range.
    falloff, contrast
        (1, h, w) float32, :func:`ssdnet_core.light.contrast_in_light` of the image in light that falls off, and of what
        is left in any light; 1 where zero is not black. ``falloff`` is (C, h, w) if a channel has a single value, which
        is 1 there.
    full_range
        The value of white: 255, 65535, or for floating point the spread of the image's values; of constant ones the
        largest magnitude, at least 1.
    grey_level
        The step between the image's own values (:func:`ssdnet_core.exposure.grey_level`), in units of ``pixels``.
    averaged_level
        What is left of the grey level in means: ``grey_level`` over the factor by which the image was shrunk.
    preparation
        What became of the image before, which the pixels no longer show.
    """

    pixels: Tensor
    valid: Tensor
    mean: Tensor
    std: Tensor
    falloff: Tensor
    contrast: Tensor
    full_range: float
    grey_level: float
    averaged_level: float
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
        Its ``working_size``, ``border``, ``leave_out_frame``, ``selvage`` and ``weaken_noise``. What lies beside the
        surface is blank ground (:mod:`ssdnet_core.blank`), and strips along the border (:mod:`ssdnet_core.frame`).

    Raises
    ------
    InvalidImageError
        If the image or its mask is none of the above, or no pixel is left.
    InvalidConfigError
        If the settings are no :class:`Config`, or a masked block would leave no context.
    """
    started = time.thread_time()
    surface = find_surface(image, mask, config=config)
    _check_enough_counts(surface.valid)
    box = box_of_what_counts(surface.valid, least=max(MIN_SIDE, 2 * config.reconstruction.block))
    colour, valid = (box.cut(values) for values in (surface.colour, surface.valid))
    standardised, mean, std = _standardise(colour, valid)
    falloff = contrast = torch.ones_like(valid)
    if surface.dark_is_zero:
        # A channel of one value, as one that is clipped everywhere, shows no light: nor is it divided by any.
        lit = std * (standardised.amax((-2, -1), keepdim=True) - standardised.amin((-2, -1), keepdim=True)) > ROUNDING
        falloff = contrast_in_light(
            standardised, _brightness(colour, lit), valid=valid, degree=FALLOFF_DEGREE, radial=FALLOFF_RADIAL
        )
        if not lit.all():
            falloff = torch.where(lit, falloff, 1.0)
        colour = colour / falloff
        standardised, mean, std = _standardise(colour, valid)
        contrast = contrast_in_light(standardised, _brightness(colour, lit), valid=valid)
    noise = NO_NOISE
    if config.weaken_noise:
        weaker, noise = with_weaker_noise(standardised, valid)
        if weaker is not standardised:
            # The network is to see as much contrast as in an image without noise.
            left = (weaker.square().sum() / standardised.square().sum()).sqrt()
            standardised, std = weaker / left, std * left
    pixels = image if image.ndim == 3 else image[:, :, None]
    values = _values(pixels, surface, small=box != Box.whole(box.size))
    channels = histograms(values)
    spread = _spread_of_values(pixels, surface)
    preparation = Preparation(
        original_shape=(image.shape[0], image.shape[1]),
        box=box,
        frame=surface.frame,
        blank=surface.blank,
        clipped=clipped_shares(channels),
        commonest_share=commonest_share(channels),
        range_over_iqr=range_over_iqr(channels, spread=spread),
        # Integers are in units of their type's range, whatever that of the values is.
        range_over_channel=range_over_channel(channels, spread=spread) if _is_floating(pixels) else 0.0,
        scattered=not enough_seen(share_of(valid, GRID), valid, side=GRID),
        constant=not bool(standardised.any()),
        noise=noise,
        seconds=time.thread_time() - started,
    )
    step = grey_level(channels, full_range=surface.full_range) / float(std)
    return WorkingImage(
        standardised,
        valid,
        mean=mean + surface.offset / surface.full_range,
        std=std,
        falloff=falloff,
        contrast=contrast,
        full_range=surface.full_range,
        grey_level=step,
        averaged_level=step * min(box.size) / min(image.shape[:2]),
        preparation=preparation,
    )


def _spread_of_values(pixels: npt.NDArray[np.generic], surface: Surface) -> float:
    """Return how far apart the lowest and the highest of the values that count lie."""
    if _is_floating(pixels):
        return surface.full_range
    # A copy of the values that count would be gigabytes of a large image. If all count, ``True`` takes a fifth of the
    # time that flags take.
    seen = surface.counted.all() or surface.counted[:, :, None]
    white = np.iinfo(pixels.dtype).max  # type: ignore[type-var]
    return float(np.max(pixels, where=seen, initial=0)) - float(np.min(pixels, where=seen, initial=white))


def _is_floating(pixels: npt.NDArray[np.generic]) -> bool:
    return np.issubdtype(pixels.dtype, np.floating)


def _values(pixels: npt.NDArray[np.generic], surface: Surface, *, small: bool) -> npt.NDArray[np.generic]:
    """Return the surface's own values (N, C), of a sample if they are many; ``small`` if they lie in a small box."""
    counted = _without_strips(surface)
    if small:
        # A sample of the whole image would hardly hit the box.
        rows, columns = (np.flatnonzero(counted.any(axis)) for axis in (1, 0))
        there = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pixels, counted = pixels[there], counted[there]
    return looked_at(pixels, counted)


def _without_strips(surface: Surface) -> npt.NDArray[np.bool_]:
    """Return which of the image's own pixels (H, W) count, less the strips that were found at the working size."""
    if surface.frame == NO_FRAME:
        return surface.counted
    (height, width), (rows, columns) = surface.counted.shape, surface.valid.shape[-2:]
    top, bottom = (math.ceil(strip * height / rows) for strip in surface.frame[:2])
    left, right = (math.ceil(strip * width / columns) for strip in surface.frame[2:])
    return without_frame(torch.from_numpy(surface.counted)[None], (top, bottom, left, right))[0].numpy()


def _brightness(colour: Tensor, lit: Tensor) -> Tensor:
    """Return the mean (1, h, w) of the channels that show light, or of all in a constant image."""
    # Chosen channels are a copy.
    shown = colour[lit.flatten()] if lit.any() and not lit.all() else colour
    return shown.mean(0, keepdim=True)


def _check_enough_counts(valid: Tensor) -> None:
    if int(valid.sum()) < MIN_COUNTED:
        raise InvalidImageError(
            f"only {int(valid.sum())} of the {MIN_COUNTED} pixels that are needed count at the working size of "
            f"{valid.shape[-1]} x {valid.shape[-2]}; masked and transparent ones do not, nor those not finite in "
            "single precision: mask less, set a smaller border or selvage, or scale the values to 0..1"
        )


def _standardise(colour: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :class:`WorkingImage` calls pixels, mean and std."""
    count = valid.sum()
    mean = (colour * valid).sum((-2, -1), keepdim=True) / count
    centred = (colour - mean) * valid
    std = (centred.square().sum() / (count * colour.shape[0])).sqrt()
    pixels = centred / (std + STD_FLOOR) if float(std) > ROUNDING else torch.zeros_like(centred)
    return pixels, mean, std + STD_FLOOR
