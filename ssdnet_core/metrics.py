"""How well anomaly maps find the defects: pixel-level metrics against ground-truth masks.

All of them follow from how often each score occurs (:mod:`ssdnet_core.pixel_counts`), so that any number of images is
measured in one pass.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from ssdnet_core.errors import InvalidConfigError
from ssdnet_core.pixel_counts import (
    Mask,
    PixelCounts,
    ScoreMap,
    check_masks,
    counts_by_sorting,
    cut_counts,
    region_shares,
)

FPR_LIMIT = 0.3

Metric = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""NaN where it is undefined; read from data, where that is None."""


@dataclass(frozen=True)
class PixelMetrics:
    """What :func:`evaluate_and_count` finds of one map, or of the pixels of many: nan if undefined.

    Attributes
    ----------
    auroc
        Area under the ROC curve over pixels, 0 to 1.
    average_precision
        Area under the precision-recall curve, 0 to 1. A step sum: the trapezoid rule is too optimistic between the
        points (Davis and Goadrich, ICML 2006, section 4).
    aupro
        Area under the per-region-overlap curve (Bergmann et al., IJCV 129, 2021) up to a false positive rate of 0.3,
        over 0.3: 0 to 1. Every region, an 8-connected component of a mask, weighs the same whatever its size: the
        curve is the mean share of a region that is found, against the share of good pixels wrongly found. It has a
        point at each distinct score, and is linear between them.
    f1
        The largest F1 over all thresholds, 0 to 1: an upper bound for use, where the truth is not known.
    """

    auroc: Metric
    average_precision: Metric
    aupro: Metric
    f1: Metric


UNDEFINED = PixelMetrics(*[float("nan")] * 4)
"""Metrics without pixels of both classes."""


def evaluate_and_count(scores: ScoreMap, truth: Mask, *, valid: Mask | None = None) -> tuple[PixelMetrics, PixelCounts]:
    """Compute all metrics of one anomaly map, exactly, and count its pixels for those of many maps together.

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
    PixelCounts
        With scores that are cut as :func:`~ssdnet_core.pixel_counts.cut_counts` says.

    Raises
    ------
    InvalidImageError
        A `ValueError`: shapes differ, a mask is not boolean, or a counted score is NaN or infinite.
    """
    counted, shares = region_shares(scores, truth, valid=valid)
    # Undefined metrics need no sorting.
    defined = shares.any() and not shares.all()
    return metrics_of(counts_by_sorting(counted, shares)) if defined else UNDEFINED, cut_counts(counted, shares)


def metrics_of(counts: PixelCounts) -> PixelMetrics:
    """Compute all metrics of counted pixels, with one threshold for all images; nan without pixels of both classes.

    They are exact for the scores that were counted, AUPRO for the regions of all images. Where
    :func:`~ssdnet_core.pixel_counts.cut_counts` has cut the scores, :func:`pooling_error` says how far the metrics of
    the uncut scores can be from these.
    """
    if not counts.good.any() or not counts.bad.any():
        return UNDEFINED
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
    """Return for each metric how far that of `metrics_of` can be from that of scores that were not cut.

    Within a level the order of the pixels is unknown: the bounds are those of the best and the worst order.
    """
    if not counts.good.any() or not counts.bad.any():
        return UNDEFINED
    good, bad, shares = _descending(counts)
    fpr, tpr, overlap = (values / values[-1] for values in (good, bad, shares))
    lowest = np.minimum(bad[:-1] + 1, bad[1:]) / (np.minimum(bad[:-1] + 1, bad[1:]) + good[1:])
    highest = bad[1:] / np.maximum(bad[1:] + good[:-1], 1)
    rises = np.diff(fpr)
    # Of each level's good pixels those below the limit; in the best order its defective ones come before them all.
    inside = np.clip(FPR_LIMIT - fpr[:-1], 0.0, rises)
    missed = inside * (1.0 - inside / np.maximum(2 * rises, np.finfo(np.float64).tiny))
    return PixelMetrics(
        auroc=float(np.sum(rises * np.diff(tpr)) / 2),
        average_precision=float(np.sum(np.diff(tpr) * (highest - lowest))),
        aupro=float(np.sum(missed * np.diff(overlap))) / FPR_LIMIT,
        f1=float(np.max(2 * bad[1:] / (good[:-1] + bad[1:] + bad[-1]))) - metrics_of(counts).f1,
    )


def intersection_over_union(found: Mask, truth: Mask, *, valid: Mask | None = None) -> float:
    """Share of the pixels found or defective that are both; in [0, 1], nan if there is none of either.

    Parameters and errors are those of :func:`evaluate_and_count`, with the pixels called defective as its scores,
    (H, W) bool.
    """
    check_masks(found.shape, truth=truth, valid=valid)
    found, truth = (mask if valid is None else mask & valid for mask in (found, truth))
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else float("nan")


def without_border(shape: tuple[int, int], fraction: float) -> Mask:
    """Mark the pixels that count when a border is left out: (H, W) bool, False in the border.

    For comparisons with published numbers that crop it, such as those of FCA (Ardelean and Weyrich,
    WACV 2024), whose evaluation drops 100 pixels at each side of a 1024 x 1024 image.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    fraction : float
        Width of the border as a share of each side, in [0, 0.5), rounded to whole pixels; at least one is
        left. Any other value raises an `InvalidConfigError`, a `ValueError`.
    """
    if not 0 <= fraction < 0.5:
        raise InvalidConfigError(f"a border of {fraction} leaves nothing of {shape}; choose one in [0, 0.5)")
    rows, columns = (min(round(fraction * side), (side - 1) // 2) for side in shape)
    valid = np.zeros(shape, dtype=bool)
    valid[rows : shape[0] - rows, columns : shape[1] - columns] = True
    return valid


def area_up_to(limit: float, x: NDArray[np.float64], *, y: NDArray[np.float64]) -> float:
    """Integrate the piecewise linear curve from x = 0 to `limit` and divide by it; x ascends to 1."""
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return float(np.trapezoid(y, x)) / limit


def _descending(counts: PixelCounts) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Good pixels, bad pixels and shares of regions at or above each level: (K + 1,), from none to all."""
    good, bad, shares = (
        np.append(0.0, np.cumsum(values[::-1], dtype=np.float64)) for values in (counts.good, counts.bad, counts.shares)
    )
    return good, bad, shares
