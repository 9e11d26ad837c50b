"""Statistics of the image's own "normal" that a minority of anomalous pixels does not move.

Each channel of (..., H, W) is treated alike and by itself, whichever image it belongs to; ``valid`` is (1, H, W), 1.0
where a pixel counts.
"""

from torch import Tensor

from ssdnet_core.medians import median

MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution, times this, is its standard deviation."""

LEAST_SEEN = 0.25
"""Of the pixels that count, the share that must be seen at a scale for it to be used (:func:`enough_seen`)."""


def over_median(values: Tensor, valid: Tensor) -> Tensor:
    """Return non-negative values over their median."""
    return values / median(values, valid).clamp_min(1e-6)


def robust_z(values: Tensor, valid: Tensor) -> Tensor:
    """Return (values - median) / sigma, with sigma from the median absolute deviation, for each channel."""
    centred = values - median(values, valid)
    return centred / mad_sigma(centred, valid).clamp_min(1e-6)


def mad_sigma(centred: Tensor, valid: Tensor) -> Tensor:
    """Return sigma from the median absolute deviation of values (..., H, W) whose median is 0: (..., 1, 1)."""
    return MAD_TO_SIGMA * median(centred.abs(), valid)


def enough_seen(share: Tensor, valid: Tensor, *, side: int) -> bool:
    """Whether enough of the pixels that count lie in squares of which more than half does.

    ``share`` is the share of each square of ``side`` pixels that counts. Where holes lie close together, few squares
    are left at a scale, and their medians would be unreliable.
    """
    return bool((share > 0.5).sum() * side**2 > LEAST_SEEN * valid.sum())
