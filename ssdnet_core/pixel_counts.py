"""How often each score of anomaly maps occurs on good and on defective pixels; many images' counts merge into one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ssdnet_core.errors import InvalidImageError
from ssdnet_core.regions import EIGHT_CONNECTED

ScoreMap = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_CUT_BITS = 13
"""Number of low bits that are cut off, of the 23 bits of the fraction of a float32."""

_LEVELS = 2 ** (32 - _CUT_BITS)


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """How often each score occurs on good and on defective pixels: all that the metrics need of them.

    Attributes
    ----------
    levels : ndarray of shape (K,), float
        The distinct scores, ascending.
    good, bad : ndarray of shape (K,), int64
        Numbers of pixels.
    shares : ndarray of shape (K,), float64
        Sum over the defective pixels of 1 / (pixels of their region): what AUPRO weighs them by.
    """

    levels: NDArray[np.floating[Any]]
    good: NDArray[np.int64]
    bad: NDArray[np.int64]
    shares: NDArray[np.float64]


def cut_counts(scores: ScoreMap, shares: NDArray[np.float64]) -> PixelCounts:
    """Return how often each score occurs among pixels (N,), cut to ten binary digits after the first.

    A million pixels become some thousand levels, whatever the scale of the map. Cutting keeps the order, and joins
    scores that differ by less than a thousandth.

    Parameters
    ----------
    scores, shares
        As :func:`region_shares` gives them.
    """
    bins = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32) >> np.uint32(_CUT_BITS)
    # Bit patterns ascend with positive numbers and descend with negative ones, which come first; -0 is 0.
    negative = bins > _LEVELS // 2
    bins[bins == _LEVELS // 2] = 0
    place = np.where(negative, _LEVELS - 1 - bins, bins + _LEVELS // 2).astype(np.int64)
    counts = _counts(np.empty(0, np.float32), place, shares=shares, length=_LEVELS)
    [found] = np.nonzero(counts.good + counts.bad)
    patterns = np.where(found < _LEVELS // 2, _LEVELS - 1 - found, found - _LEVELS // 2).astype(np.uint32)
    levels = (patterns << np.uint32(_CUT_BITS)).view(np.float32)
    return PixelCounts(levels, counts.good[found], counts.bad[found], counts.shares[found])


def counts_by_sorting(scores: ScoreMap, shares: NDArray[np.float64]) -> PixelCounts:
    """Return how often each distinct score occurs among pixels (N,): exactly, by sorting them once.

    Parameters
    ----------
    scores, shares
        As :func:`region_shares` gives them.
    """
    order = np.argsort(scores)
    ascending = scores[order]
    first = np.append(True, ascending[1:] != ascending[:-1])
    return _counts(ascending[first], np.cumsum(first) - 1, shares=shares[order], length=int(first.sum()))


def merged_counts(images: Sequence[PixelCounts]) -> PixelCounts:
    """Return the counts of the pixels of all images together, at most 2 ** 19 levels however many images there are."""
    if not images:
        return PixelCounts(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    levels, place = np.unique(np.concatenate([image.levels for image in images]), return_inverse=True)

    def summed(name: str) -> NDArray[np.float64]:
        weights = np.concatenate([getattr(image, name) for image in images]).astype(np.float64)
        return np.bincount(place, weights, len(levels)).astype(np.float64)

    # Counts below 2 ** 53 are exact as float64.
    return PixelCounts(levels, summed("good").astype(np.int64), summed("bad").astype(np.int64), summed("shares"))


def region_shares(scores: ScoreMap, truth: Mask, *, valid: Mask | None) -> tuple[ScoreMap, NDArray[np.float64]]:
    """Return the scores of the pixels that count, and the share of each in its region: both (N,).

    The share of a defective pixel is 1 / (pixels of its region), that of a good pixel 0.

    Parameters and errors are those of :func:`ssdnet_core.metrics.evaluate_and_count`. Regions are formed of
    the pixels that count only, as if the rest had been cropped.
    """
    counted = _counted(scores, truth, valid=valid)
    regions, _ = ndimage.label(truth if valid is None else truth & valid, structure=EIGHT_CONNECTED)
    flat = regions.ravel() if valid is None else regions[valid]
    return counted, np.where(flat > 0, 1.0 / np.bincount(flat)[flat], 0.0)


def check_masks(shape: tuple[int, ...], *, truth: Mask, valid: Mask | None) -> None:
    """Refuse masks that are not boolean, or of another shape than the scores (H, W)."""
    for name, mask in (("truth", truth), ("valid", valid)):
        if mask is None:
            continue
        if len(shape) != 2 or mask.shape != shape:
            raise InvalidImageError(
                f"scores have shape {shape} and {name} {mask.shape}; resize one so that both are the same (H, W)"
            )
        if mask.dtype != np.bool_:
            raise InvalidImageError(f"{name} has dtype {mask.dtype}; pass a boolean mask, such as {name} > 0")


def _counted(scores: ScoreMap, truth: Mask, *, valid: Mask | None) -> ScoreMap:
    """Return the scores of the pixels that count, flat and checked."""
    check_masks(scores.shape, truth=truth, valid=valid)
    counted = scores.ravel() if valid is None else scores[valid]
    # float32 holds few enough values to sort fast; others are rare, and float64 holds them all.
    counted = counted if counted.dtype == np.float32 else counted.astype(np.float64)
    if not np.isfinite(counted).all():
        bad = np.count_nonzero(~np.isfinite(counted))
        raise InvalidImageError(f"{bad} scores are NaN or infinite; exclude those pixels with valid")
    return counted


def _counts(
    levels: NDArray[np.floating[Any]], place: NDArray[np.int64], *, shares: NDArray[np.float64], length: int
) -> PixelCounts:
    bad = np.bincount(place[shares > 0], minlength=length)
    good = np.bincount(place, minlength=length) - bad
    return PixelCounts(levels, good, bad, np.bincount(place, shares, length).astype(np.float64))
