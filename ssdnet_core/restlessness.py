"""How restless an image's normal surface is: the part of the verdict's null model that each image tells by itself."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.medians import row_quantiles

BLOCK = 64
"""Side of the blocks in pixels, about: a whole number of them, at least :data:`FEWEST_BLOCKS`, lie side by side."""

FEWEST_BLOCKS = 4

LOW_QUANTILE = 0.4
"""Quantile of the blocks' peaks. A defect that reaches fewer than six blocks in ten does not exceed it."""

USUAL_PEAK = {8: 2.95, 16: 3.11, 32: 3.41, 64: 3.92, 85: 4.16}
"""That quantile of blocks of so many pixels a side: the median over good photographs of five textures, each in its
eight orientations (docs/EXPERIMENTS.md)."""

LEAST_RESTLESS, MOST_RESTLESS = 0.85, 1.6
"""Least and largest restlessness. 1 in 100 good images is calmer than .88, and 1 in 100 more restless than 1.28;
the upper bound limits how far a defect that reaches most blocks raises the alarm level."""


def restlessness(levels: Tensor, valid: Tensor) -> Tensor:
    """Return how restless an image's normal surface is, relative to the photographs that the law was measured on.

    On leather with folds or metal in uneven light all places have higher peaks than on a plain weave, so that one peak
    means less. So the image is cut into blocks, and a low quantile of the blocks' peaks is divided by its usual value
    on those photographs. Quantiles of the pixels would tell how wide the middle of their distribution is, whereas
    alarms depend on its tail (docs/EXPERIMENTS.md has the variants).

    Parameters
    ----------
    levels
        (..., H, W), :func:`ssdnet_core.scoring.verdict_map`; at least 0.
    valid
        (1, H, W), 1.0 where a pixel counts. Blocks that count for less than half of the block that counts most have no
        say.

    Returns
    -------
    Tensor
        (...), 1 on an image as photographs mostly are, .85 to 1.6.
    """
    height, width = levels.shape[-2:]
    block = _block(height), _block(width)
    # The lowest that a level may be: what does not count is no peak.
    counted = torch.where(valid[0] > 0, levels, 0.0)
    peaks = functional.max_pool2d(counted.reshape(-1, 1, height, width), block, ceil_mode=True)
    share = functional.avg_pool2d(valid[None], block, ceil_mode=True).flatten()
    low = row_quantiles(peaks.flatten(1)[:, share >= share.max() / 2], LOW_QUANTILE)
    usual = np.interp(math.sqrt(block[0] * block[1]), list(USUAL_PEAK), list(USUAL_PEAK.values()))
    return (low / float(usual)).clamp(LEAST_RESTLESS, MOST_RESTLESS).reshape(levels.shape[:-2])


def _block(side: int) -> int:
    """Return the side of a block along a side of the image."""
    return math.ceil(side / max(FEWEST_BLOCKS, round(side / BLOCK)))
