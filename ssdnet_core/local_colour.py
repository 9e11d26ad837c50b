"""Score D: how unusual the mean colour of a neighbourhood is.

Images (..., C, H, W) in which the same pixels count are scored together, each as it would be alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.bulk import distance_over_median
from ssdnet_core.filters import GRID, share_of, weighted_shrink, weighted_smooth, zeros_for
from ssdnet_core.medians import median
from ssdnet_core.polynomial_trend import without_trend
from ssdnet_core.robust import enough_seen, mad_sigma

COLOUR_WINDOW = 4.0
"""Sigma in pixels of the windows over which colours are averaged."""

COLOUR_RIDGE = 1e-3
"""Channels of a photograph differ far less than they vary together: a larger ridge hides stains of another hue."""

KNOWN_TO = 0.25
"""Share of a grey level to which a mean colour is known. From 0.2 to 0.4 all does much the same
(docs/EXPERIMENTS.md)."""

WHOLE_WINDOW = 0.95
"""Share of a window that must lie on pixels that count, for a mean that tells the surface's colour."""


def local_colour(image: Tensor, valid: Tensor, *, grey_level: Tensor | float = 0.0) -> Tensor:
    """Return how unusual the mean colour of a neighbourhood is: (..., 1, h, w), median 1.

    Robust squared Mahalanobis distance over the channels, each less its trend of second degree, since light falls off
    towards the corners. Flat stains show here, most of all those that differ in hue only, since the channels of a
    surface vary together. h and w are H and W over 4, rounded up.

    Parameters
    ----------
    grey_level
        (..., 1, 1) or a number: one step of the image's values, in its units. Differences of a fraction of a step come
        from rounding or compression: at 0 the few blocks of a JPEG that keep a faint hue stand out from a nearly grey
        surface, and a single pixel from a channel that is constant otherwise.
    """
    share = share_of(valid, GRID)
    counted = (share > 0.5).float()
    if not enough_seen(share, valid, side=GRID):
        return zeros_for(image, like=share)
    level = without_trend(_mean_colours(image, valid, share=share), counted, degree=2)
    level = level - median(level, counted)
    known_to = KNOWN_TO * torch.as_tensor(grey_level, dtype=level.dtype, device=level.device)[..., None]
    sigma = (mad_sigma(level, counted).square() + known_to**2).sqrt().clamp_min(1e-6)
    least_variance = (known_to / sigma).square()[..., 0]
    return distance_over_median(level / sigma, counted, ridge=COLOUR_RIDGE, least_variance=least_variance)


def _mean_colours(image: Tensor, valid: Tensor, *, share: Tensor) -> Tensor:
    """Return the mean colours in a window about each square, (..., C, h, w).

    Where a border or a hole cuts the window off, the mean of the whole windows beside it is taken: on a regular texture
    a window that is cut off may hold only a part of a period, whose mean is not the surface's colour.
    """
    sigma = COLOUR_WINDOW / GRID
    means = weighted_smooth(weighted_shrink(image, valid, factor=GRID), share, sigma=sigma)
    reach = math.ceil(3 * sigma)
    framed = functional.pad(share, (reach,) * 4)
    seen = weighted_smooth(framed, torch.ones_like(framed), sigma=sigma)[..., reach:-reach, reach:-reach]
    whole = ((share > 0.5) & (seen > WHOLE_WINDOW)).float()
    if not enough_seen(whole, valid, side=GRID):
        return means
    beside = weighted_smooth(whole, torch.ones_like(whole), sigma=sigma) > 1e-4
    return torch.where((whole == 0) & beside, weighted_smooth(means, whole, sigma=sigma), means)
