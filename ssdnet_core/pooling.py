"""Pixel-level metrics of any number of images in one pass: all of them follow from how often each score occurs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdnet_core.metrics import FPR_LIMIT, Mask, PixelMetrics, ScoreMap, area_up_to, region_shares

_CUT_BITS = 13
"""Of the 23 bits of the fraction of a float32."""

_LEVELS = 2 ** (32 - _CUT_BITS)
_UNDEFINED = PixelMetrics(*[float("nan")] * 4)


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


def evaluate_map(scores: ScoreMap, truth: Mask, *, valid: Mask | None = None) -> PixelMetrics:
    """Compute all metrics of one anomaly map, exactly, by sorting its pixels once.

    Parameters
    ----------
    scores : ndarray of shape (H, W), float
        Anomaly scores, higher is more anomalous.
    truth : ndarray of shape (H, W), bool
        True at defective pixels.
    valid : ndarray of shape (H, W), bool, optional
        True where a pixel counts; by default all do.

    Returns
    -------
    PixelMetrics
        All nan if the counted pixels are all defective, all good, or none.

    Raises
    ------
    InvalidImageError
        A `ValueError`: shapes differ, a mask is not boolean, or a counted score is NaN or infinite.
    """
    counted, shares = region_shares(scores, truth, valid=valid)
    if not shares.any() or shares.all():
        return _UNDEFINED
    order = np.argsort(counted)
    ascending = counted[order]
    first = np.append(True, ascending[1:] != ascending[:-1])
    counts = _counts(ascending[first], np.cumsum(first) - 1, shares=shares[order], length=int(first.sum()))
    return metrics_of(counts)


def count_pixels(scores: ScoreMap, truth: Mask, *, valid: Mask | None = None) -> PixelCounts:
    """Count the pixels of each score; parameters and errors are those of :func:`evaluate_map`.

    Scores are cut to ten binary digits after the first: a million pixels become some thousand levels, whatever the
    scale of the map. Cutting keeps the order, and joins scores that differ by less than a thousandth.
    """
    counted, shares = region_shares(scores, truth, valid=valid)
    bins = np.ascontiguousarray(counted, dtype=np.float32).view(np.uint32) >> np.uint32(_CUT_BITS)
    # Bit patterns ascend with positive numbers and descend with negative ones, which come first; -0 is 0.
    negative = bins > _LEVELS // 2
    bins[bins == _LEVELS // 2] = 0
    place = np.where(negative, _LEVELS - 1 - bins, bins + _LEVELS // 2).astype(np.int64)
    counts = _counts(np.empty(0, np.float32), place, shares=shares, length=_LEVELS)
    [found] = np.nonzero(counts.good + counts.bad)
    patterns = np.where(found < _LEVELS // 2, _LEVELS - 1 - found, found - _LEVELS // 2).astype(np.uint32)
    levels = (patterns << np.uint32(_CUT_BITS)).view(np.float32)
    return PixelCounts(levels, counts.good[found], counts.bad[found], counts.shares[found])


def merged_counts(images: Sequence[PixelCounts]) -> PixelCounts:
    """Return the counts of all pixels together: of at most 2 ** 19 levels, however many images they are of."""
    if not images:
        return PixelCounts(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    levels, place = np.unique(np.concatenate([image.levels for image in images]), return_inverse=True)

    def summed(name: str) -> NDArray[np.float64]:
        weights = np.concatenate([getattr(image, name) for image in images]).astype(np.float64)
        return np.bincount(place, weights, len(levels)).astype(np.float64)

    # Counts below 2 ** 53 are exact as float64.
    return PixelCounts(levels, summed("good").astype(np.int64), summed("bad").astype(np.int64), summed("shares"))


def metrics_of(counts: PixelCounts) -> PixelMetrics:
    """Compute all metrics of counted pixels: one threshold for all of them; nan without pixels of both classes.

    Equal to those of the pixels themselves, and AUPRO to that of all images, of scores cut as :func:`count_pixels`
    does; :func:`pooling_error` says how far those of the scores themselves can be.
    """
    if not counts.good.any() or not counts.bad.any():
        return _UNDEFINED
    good, bad, shares = _descending(counts)
    fpr, tpr, overlap = (values / values[-1] for values in (good, bad, shares))
    precision = bad[1:] / (good[1:] + bad[1:])
    return PixelMetrics(
        auroc=float(np.trapezoid(tpr, fpr)),
        average_precision=float(np.sum(np.diff(tpr) * precision)),
        aupro=area_up_to(FPR_LIMIT, fpr, y=overlap),
        f1=float(np.max(2 * bad[1:] / (good[1:] + bad[1:] + bad[-1]))),
    )


def pooling_error(counts: PixelCounts) -> PixelMetrics:
    """Return how far `metrics_of` can be, for each metric, from that of scores that were not cut.

    Within a level the order of the pixels is unknown: the bounds are those of the best and the worst order.
    """
    if not counts.good.any() or not counts.bad.any():
        return _UNDEFINED
    good, bad, shares = _descending(counts)
    fpr, tpr, overlap = (values / values[-1] for values in (good, bad, shares))
    lowest = np.minimum(bad[:-1] + 1, bad[1:]) / (np.minimum(bad[:-1] + 1, bad[1:]) + good[1:])
    highest = bad[1:] / np.maximum(bad[1:] + good[:-1], 1)
    inside = fpr[:-1] < FPR_LIMIT
    return PixelMetrics(
        auroc=float(np.sum(np.diff(fpr) * np.diff(tpr)) / 2),
        average_precision=float(np.sum(np.diff(tpr) * (highest - lowest))),
        aupro=float(np.sum((np.diff(fpr) * np.diff(overlap))[inside])) / FPR_LIMIT,
        f1=float(np.max(2 * bad[1:] / (good[:-1] + bad[1:] + bad[-1]))) - metrics_of(counts).f1,
    )


def _counts(
    levels: NDArray[np.floating[Any]], place: NDArray[np.int64], *, shares: NDArray[np.float64], length: int
) -> PixelCounts:
    bad = np.bincount(place[shares > 0], minlength=length)
    good = np.bincount(place, minlength=length) - bad
    return PixelCounts(levels, good, bad, np.bincount(place, shares, length).astype(np.float64))


def _descending(counts: PixelCounts) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Good pixels, bad pixels and shares of regions at or above each level: (K + 1,), from none to all."""
    good, bad, shares = (
        np.append(0.0, np.cumsum(values[::-1], dtype=np.float64)) for values in (counts.good, counts.bad, counts.shares)
    )
    return good, bad, shares
