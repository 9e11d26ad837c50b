"""How an image's values were taken: whether its structure shows, and in which steps. Not from the paper."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MUCH_CLIPPED = 0.3
"""Share of pixels of one extreme value of a channel from which on medians tell little: of 161 photographs one has more,
with 0.49 at the end of a channel."""

NEARLY_FLAT = 0.985
"""Share of pixels of one value in every channel from which on medians are rounding: surfaces of 128 with pixels of 127
and 129 at random score up to 0 at .97, up to 2 at .99 and 36 at .999."""

LOOKED_AT = 2**18
"""Pixels at most: neither a share nor a step needs more."""

MOST_RANGE_OVER_IQR = 150.0
"""Times the middle half of the values, that all of them may spread before those of the surface lie too close together:
what stands out on it would be less than the working image's least contrast."""

COARSEST, FEW_VALUES = 1 / 255, 4
"""Of the range: a drawing of fewer values has no coarser steps for that."""


def looked_at(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.generic]:
    """Return the pixels (H, W, C) that count, (N, C); of a large image those of a sample, always the same one."""
    values = pixels.reshape(-1, pixels.shape[-1])
    seen = counted.ravel()
    if len(seen) > LOOKED_AT:
        # At random: a regular sample would meet a regular texture in step.
        places = np.random.default_rng(0).integers(len(seen), size=LOOKED_AT)
        values, seen = values[places], seen[places]
    return values[seen]


class Histogram(NamedTuple):
    """The values that occur in a channel, ascending, and how many pixels have each: both (V,)."""

    values: npt.NDArray[np.generic]
    counts: npt.NDArray[np.intp]

    def shares(self) -> npt.NDArray[np.float64]:
        """Return the share of the pixels that have each value: (V,)."""
        shares: npt.NDArray[np.float64] = self.counts / self.counts.sum()
        return shares


def histograms(pixels: npt.NDArray[np.generic]) -> tuple[Histogram, ...]:
    """Count the values of pixels (N, C), channel by channel."""
    return tuple(_histogram(channel) for channel in np.ascontiguousarray(pixels.T))


def _histogram(channel: npt.NDArray[np.generic]) -> Histogram:
    if not np.issubdtype(channel.dtype, np.integer):
        return Histogram(*np.unique(channel, return_counts=True))
    # Counting takes a fifth of the time of sorting.
    counts = np.bincount(channel)
    occurring = np.flatnonzero(counts)
    return Histogram(occurring, counts[occurring])


def clipped_shares(channels: Sequence[Histogram]) -> tuple[float, float]:
    """Return the shares of pixels that have the darkest and the brightest value of a channel, the worst one.

    A channel of one value has no structure to lose; if all are, every pixel has both.
    """
    if not all(len(channel.values) for channel in channels):
        return 0.0, 0.0
    varied = [channel.shares() for channel in channels if len(channel.values) > 1]
    dark, bright = (max((float(shares[end]) for shares in varied), default=1.0) for end in (0, -1))
    return dark, bright


def commonest_share(channels: Sequence[Histogram]) -> float:
    """Return the share of pixels that have the commonest value of a channel, the one that varies most."""
    return min(float(channel.shares().max(initial=0.0)) for channel in channels)


def grey_level(channels: Sequence[Histogram], *, full_range: float) -> float:
    """Return the step between the values of an image, in units of its range: 0 to 1.

    The median difference of neighbouring values that occur, so that eight bits have the same steps in whatever type
    they are stored; next to 0 where values are continuous. In the channel where it is least: channels that were scaled
    each by itself have values between one another's. Those of fewer than half of the values that another has, as of one
    hue, have no say.
    """
    enough = max(FEW_VALUES, max(len(channel.values) for channel in channels) / 2)
    told = [channel.values for channel in channels if len(channel.values) >= enough]
    if told:
        return min(_usual_step(values) for values in told) / full_range
    pooled = np.unique(np.concatenate([channel.values for channel in channels]))
    step = _usual_step(pooled) / full_range
    return min(step, COARSEST) if len(pooled) < FEW_VALUES else step


def _usual_step(values: npt.NDArray[np.generic]) -> float:
    """Return the median difference of neighbours among values (V,), ascending; 0 if there is but one."""
    steps = np.diff(values.astype(np.float64))
    return float(np.median(steps)) if len(steps) else 0.0


def range_over_iqr(values: npt.NDArray[np.generic], *, spread: float) -> float:
    """Return how many times the distance between the quartiles of values (N, C) their range is; 0 if all are one.

    ``spread`` is that range, of all values that these may be a sample of. Where the quartiles are one value, as most of
    the pixels have, it is the usual distance of the others from it.
    """
    if not len(values):
        return 0.0
    exact = values.astype(np.float64)
    low, high = np.quantile(exact, (0.25, 0.75))
    if high > low:
        return spread / float(high - low)
    others = exact[exact != low]
    return spread / float(np.median(np.abs(others - low))) if len(others) else 0.0
