"""How restless an image's normal surface is: the part of the verdict's null model that each image tells by itself."""

from torch import Tensor

from ssdnet_core.medians import row_medians, row_quantiles, values_that_count

LOW_QUANTILE = 0.1
"""The lower of the two quantiles; the upper is the median."""

CALM_SPREAD = 0.45
"""Distance from the 10 % quantile of the verdict's map to its median, on the calmer third of the good photographs."""

MOST_RESTLESS = 2.0
"""Largest restlessness: no image's alarm level is raised further."""


def restlessness(levels: Tensor, valid: Tensor) -> Tensor:
    """Return how restless an image's normal surface is, relative to the photographs that the law was measured on.

    The root of the spread of the lower half of the verdict's map, which defects on less than half of the surface do not
    reach. On leather with folds or metal in uneven light a peak means less than on a plain weave. The root is taken
    since the lower half tells only part of how heavy the upper tail is. The result is at least 1, so that a calmer
    surface than most has no lower alarm level (docs/EXPERIMENTS.md has the variants).

    Parameters
    ----------
    levels
        (..., H, W), :func:`ssdnet_core.scoring.verdict_map`.
    valid
        (1, H, W), 1.0 where a pixel counts.

    Returns
    -------
    Tensor
        (...), 1 on a calm image, at most 2.
    """
    counted = values_that_count(levels, valid)
    spread = row_medians(counted) - row_quantiles(counted, LOW_QUANTILE)
    return (spread / CALM_SPREAD).sqrt().clamp(1.0, MOST_RESTLESS)
