"""Score A: how unusual the strengths of the derivatives in a neighbourhood are.

Images (..., C, H, W) in which the same pixels count are scored together, each as it would be alone.
"""

import math

import torch
from torch import Tensor

from ssdnet_core.bulk import distance_over_median
from ssdnet_core.derivatives import ENERGY_FLOOR, energies
from ssdnet_core.filters import GRID, enlarge_squares, share_of, weighted_smooth, zeros_for
from ssdnet_core.polynomial_trend import without_trend
from ssdnet_core.robust import enough_seen

ENERGY_SCALES = (1, 2, 4, 8)
ENERGY_WINDOW = 8.0
"""Sigma in pixels of the windows over which squared derivatives are averaged; at the coarsest scale 16, two squares."""

VALUES_AT_A_TIME = 2**21
"""Most values of squared derivatives that are worked on together, for the memory that it takes."""


def local_energy(values: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the strengths of the derivatives in a neighbourhood are: (..., 1, h, w).

    The sum over four scales of a robust squared Mahalanobis distance, divided at each scale by its median. Its features
    are the logarithms of the Gaussian-averaged squared derivatives of all channels, each less its paraboloid; on a
    surface they vary together. h and w are H and W over 4, rounded up.
    """
    share = share_of(valid, GRID)
    total = zeros_for(values, like=share)
    for side, strength, counted in energies(values, valid, scales=ENERGY_SCALES, grid=GRID):
        if not enough_seen(counted, valid, side=side):
            continue
        unusual = _unusual(strength, counted, window=ENERGY_WINDOW / side)
        total += enlarge_squares(unusual, side // GRID, like=share)
    return total


def _unusual(values: Tensor, share: Tensor, *, window: float) -> Tensor:
    counted = (share > 0.5).float()
    levels = []
    # A few channels at a time where the image is large.
    for part in values.tensor_split(math.ceil(math.prod(values.shape[-3:]) / VALUES_AT_A_TIME), dim=-3):
        averaged = weighted_smooth(part, share, sigma=max(window, 2.0))
        levels.append(without_trend((averaged + ENERGY_FLOOR).log(), counted, degree=2))
    return distance_over_median(torch.cat(levels, dim=-3), counted)
