"""How far the contrast of a surface follows the light on it, told from the image itself. Not from the paper.

Light multiplies what a surface shows, and so its contrast and the residuals: all are larger where a lamp is reflected.
But the noise of a sensor is the same in the dark, and a stain need not change the contrast. So the contrast follows a
power of the light, with an exponent from 0 to 1.

An image is divided by its contrast in light that falls off from one side, from the middle or in all corners
(:data:`FALLOFF_DEGREE`, :data:`FALLOFF_RADIAL`): a network that is fitted to an image in strong light learns the light
and little else. Finer variation of the light could also be a stain: it is left in the image, and the residuals are
divided by the contrast in it.
"""

import torch
from torch import Tensor

from ssdnet_core.derivatives import ENERGY_FLOOR, derivative_energy
from ssdnet_core.filters import GRID, filled, share_of, weighted_shrink, weighted_smooth
from ssdnet_core.medians import median
from ssdnet_core.polynomial_trend import TREND_ROUNDS, biweight, without_trend
from ssdnet_core.robust import enough_seen

FALLOFF_DEGREE = 2
"""Degree of the polynomial that models light which falls off. One of third degree follows a dark corner, one of fourth
any stain that is a quarter as long as the image (docs/EXPERIMENTS.md)."""

FALLOFF_RADIAL = 8
"""Power of the distance from the middle that models light which falls steeply in the corners."""

LIGHT_DEGREE = 6
"""Degree of the polynomial that models any light: also a lamp's reflection."""

DARKEST, BRIGHTEST = 1 / 3, 3.0
"""Limits of the light, in units of its mean: what lies beyond is another surface, or can hardly be seen."""

STRENGTH_WINDOW = 8.0
"""Sigma in pixels of the window over which the strengths of derivatives are averaged."""

EVEN_VARIANCE = 1e-3
"""Variance of the light's logarithm, three hundredths squared, below which the light is too even to tell how the
contrast follows it; it is added to the measured variance, which draws the power towards 0."""


def contrast_in_light(
    pixels: Tensor, brightness: Tensor, *, valid: Tensor, degree: int = LIGHT_DEGREE, radial: int = 0
) -> Tensor:
    """Return the contrast that a surface has in the light on it, over what it has in the mean light: (1, H, W).

    The light is the robust trend of the brightness; the power is the robust slope of the logarithm of the strength of
    the derivatives, once the pixels' own trends are taken off, over that of the light. All 1 if too few of the pixels
    that count lie together.

    Parameters
    ----------
    pixels
        (C, H, W), standardised.
    brightness
        (1, H, W), 0 where there is no light.
    valid
        (1, H, W), 1.0 where a pixel counts.
    degree, radial
        Of the polynomial that models the light (:func:`ssdnet_core.polynomial_trend.without_trend`).
    """
    share = share_of(valid, GRID)
    if not enough_seen(share, valid, side=GRID):
        return torch.ones_like(brightness)
    trend = brightness - without_trend(brightness, valid, degree=degree, radial=radial)
    mean = (trend * valid).sum() / valid.sum()
    if float(mean) <= 0:
        return torch.ones_like(brightness)
    light = (trend / mean).clamp(DARKEST, BRIGHTEST)
    # Light that falls off steeply has derivatives itself: along the streaks of a brushed surface more than that has.
    pixels = without_trend(filled(pixels, valid), valid, degree=degree, radial=radial)
    energy = weighted_smooth(derivative_energy(pixels, valid, grid=GRID), share, sigma=STRENGTH_WINDOW / GRID)
    strength = (energy + ENERGY_FLOOR).log().mean(-3, keepdim=True) / 2
    of_squares = weighted_shrink(light.log(), valid, factor=GRID)
    return light ** _slope(of_squares, strength, counted=(share > 0.5).float()).clamp(0.0, 1.0)


def _slope(x: Tensor, y: Tensor, *, counted: Tensor) -> Tensor:
    """Return the slope, (), of y over x, both (1, h, w), by reweighted least squares with Tukey's biweight."""
    weight = counted
    for _ in range(TREND_ROUNDS):
        total = weight.sum().clamp_min(1e-6)
        from_mean, of_value = (values - (weight * values).sum() / total for values in (x, y))
        slope = (weight * from_mean * of_value).sum() / ((weight * from_mean.square()).sum() + EVEN_VARIANCE * total)
        distance = (of_value - slope * from_mean).abs()
        weight = counted * biweight(distance, median(distance, counted))
    return slope
