"""How an image's values were taken: whether its structure shows, and in which steps. Not from the paper."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MUCH_CLIPPED = 0.3
"""Share of pixels with the darkest or the brightest value of a channel above which medians tell little: of 161
photographs one has more, 0.49 at one end of a channel."""

NEARLY_FLAT = 0.985
"""Share of pixels with one value in every channel above which medians are mere rounding: surfaces of grey value 128
with pixels of 127 and 129 at random score up to 0 at a share of .97, up to 2 at .99 and 36 at .999."""

MOST_LOOKED_AT = 2**18
"""Most pixels that are sampled: neither a share nor a step needs more."""

MOST_RANGE_OVER_IQR = 150.0
"""Range of all values over their interquartile range above which the surface's own values lie too close together: what
stands out on it would be less than the working image's least contrast."""

MOST_RANGE_OVER_CHANNEL = 300.0
"""Range of all values over the widest of the channels' own ranges above which the channels lie too far apart. Beside
offsets of 300 such ranges the maps of eight photographs with a defect (preset preview) correlate by at least .996 with
those without, of 1000 by .962 and of 3000 by .864; beside 10,000 three images are taken for constant."""

ROUNDING = 1e-6
"""Range of a channel, in units of its largest magnitude, up to which its values differ by their rounding alone."""

COARSEST_STEP, FEW_VALUES = 1 / 255, 4
"""An image of fewer than ``FEW_VALUES`` distinct values is assumed to have a step of at most ``COARSEST_STEP`` of its
range: a drawing's few values lie far apart, but were not rounded that coarsely."""


def looked_at(pixels: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.generic]:
    """Return the pixels of (H, W, C) that count, (N, C); of a large image those in a fixed random sample."""
    values = pixels.reshape(-1, pixels.shape[-1])
    seen = counted.ravel()
    if len(seen) > MOST_LOOKED_AT:
        # At random: a regular sample could keep step with a regular texture.
        places = np.random.default_rng(0).integers(len(seen), size=MOST_LOOKED_AT)
        values, seen = values.take(places, axis=0), seen.take(places)
    return values if seen.all() else values[seen]


class Histogram(NamedTuple):
    """The values that occur in a channel, ascending, and how many pixels have each: both (V,)."""

    values: npt.NDArray[np.generic]
    counts: npt.NDArray[np.intp]

    def shares(self) -> npt.NDArray[np.float64]:
        """Return the share of the pixels that have each value: (V,)."""
        return self.counts / self.counts.sum()


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
    """Return the shares of pixels with the darkest and with the brightest value of a channel, 0 to 1.

    Each is that of the channel where it is largest. A channel of a single value is left out, since it has no structure
    to lose; if all are such, both shares are 1. Without pixels both are 0.
    """
    if not all(len(channel.values) for channel in channels):
        return 0.0, 0.0
    varied = [channel.shares() for channel in channels if len(channel.values) > 1]
    dark, bright = (max((float(shares[end]) for shares in varied), default=1.0) for end in (0, -1))
    return dark, bright


def commonest_share(channels: Sequence[Histogram]) -> float:
    """Return the share of pixels with the commonest value of a channel, in the channel where it is smallest: 0 to 1."""
    return min(float(channel.shares().max(initial=0.0)) for channel in channels)


def grey_level(channels: Sequence[Histogram], *, full_range: float) -> float:
    """Return the step between the values of an image, in units of its range: 0 to 1.

    The step of a channel is the median difference between neighbouring values that occur in it, so that eight bits
    have the same steps in whatever type they are stored, a few stray values aside; it is next to 0 where values are
    continuous, or have rounding noise of their own. The smallest step of any channel is returned; channels are not
    pooled while one has enough values, since those scaled separately have values between one another's. A channel
    with fewer than half of the values that another has, as in an image of one hue, is ignored.
    """
    enough = max(FEW_VALUES, max(len(channel.values) for channel in channels) / 2)
    told = [channel.values for channel in channels if len(channel.values) >= enough]
    if told:
        return min(_usual_step(values) for values in told) / full_range
    pooled = np.unique(np.concatenate([channel.values for channel in channels]))
    step = _usual_step(pooled) / full_range
    return min(step, COARSEST_STEP) if len(pooled) < FEW_VALUES else step


def _usual_step(values: npt.NDArray[np.generic]) -> float:
    """Return the median difference between neighbouring values of (V,), ascending; 0 if there is only one value."""
    steps = np.diff(values.astype(np.float64))
    return float(np.median(steps)) if len(steps) else 0.0


def range_over_iqr(channels: Sequence[Histogram], *, spread: float) -> float:
    """Return the range of all values divided by the interquartile range of the channels' together; 0 if none vary.

    ``spread`` is the range; the channels may be a sample of what it is the range of. If both quartiles are one value,
    because most pixels have it, the median distance of the other values from it is taken for the interquartile range.
    """
    values = np.concatenate([channel.values for channel in channels]).astype(np.float64)
    counts = np.concatenate([channel.counts for channel in channels])
    if not len(values):
        return 0.0
    low, high = _quantiles(values, (0.25, 0.75), counts=counts)
    if high > low:
        return float(spread / (high - low))
    others = values != low
    if not others.any():
        return 0.0
    [distance] = _quantiles(np.abs(values - low), (0.5,), counts=counts * others)
    return float(spread / distance)


def _quantiles(
    values: npt.NDArray[np.float64], shares: tuple[float, ...], *, counts: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    # Weighted, numpy knows this method alone.
    return np.quantile(values, shares, weights=counts, method="inverted_cdf")


def range_over_channel(channels: Sequence[Histogram], *, spread: float) -> float:
    """Return the range of all values divided by the widest range that a channel has of its own; 0 if none varies.

    ``spread`` is the range of all values; the channels may be a sample of what it is the range of. It is far above 1
    where channels have offsets of their own; a single channel has none, and 0 is returned.
    """
    if len(channels) == 1 or not all(len(channel.values) for channel in channels):
        return 0.0
    ends = [(float(channel.values[0]), float(channel.values[-1])) for channel in channels]
    varied = [high - low for low, high in ends if high - low > ROUNDING * max(abs(low), abs(high))]
    return spread / max(varied) if varied else 0.0
