"""How well anomaly maps find the defects: pixel-level metrics against ground-truth masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ssdnet_core.errors import InvalidConfigError, InvalidImageError
from ssdnet_core.regions import EIGHT_CONNECTED

ScoreMap = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

FPR_LIMIT = 0.3


@dataclass(frozen=True)
class PixelMetrics:
    """What :func:`ssdnet_core.pooling.evaluate_map` finds of one map, or of the pixels of many: nan if undefined.

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
        The largest F1 of any threshold, 0 to 1: an upper bound in use, where the truth is not known.
    """

    auroc: float
    average_precision: float
    aupro: float
    f1: float


def intersection_over_union(found: Mask, truth: Mask, *, valid: Mask | None = None) -> float:
    """Share of the pixels found or defective that are both; in [0, 1], nan if there is none of either.

    Parameters and errors are those of :func:`ssdnet_core.pooling.evaluate_map`, with the pixels called defective as its
    scores, (H, W) bool.
    """
    called, labels = _counted(found.astype(np.float32), truth, valid=valid)
    union = np.count_nonzero((called > 0) | labels)
    return np.count_nonzero(called[labels]) / union if union else float("nan")


def without_border(shape: tuple[int, int], fraction: float) -> Mask:
    """Mark the pixels that count when a border is left out: (H, W) bool, False in the border.

    For comparisons with published numbers that crop it, such as those of FCA (Ardelean and Weyrich,
    WACV 2024), whose evaluation drops 100 pixels at each side of a 1024 x 1024 image.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    fraction : float
        Width of the border as a share of each side, in [0, 0.5); in whole pixels, one of which is left.
        Anything else is an `InvalidConfigError`, a `ValueError`.
    """
    if not 0 <= fraction < 0.5:
        raise InvalidConfigError(f"a border of {fraction} leaves nothing of {shape}; choose one in [0, 0.5)")
    rows, columns = (min(round(fraction * side), (side - 1) // 2) for side in shape)
    valid = np.zeros(shape, dtype=bool)
    valid[rows : shape[0] - rows, columns : shape[1] - columns] = True
    return valid


def _counted(scores: ScoreMap, truth: Mask, *, valid: Mask | None) -> tuple[ScoreMap, Mask]:
    """Scores and labels of the pixels that count, flat and checked."""
    chosen = np.ones(scores.shape, dtype=bool) if valid is None else valid
    for name, mask in (("truth", truth), ("valid", chosen)):
        if scores.ndim != 2 or mask.shape != scores.shape:
            raise InvalidImageError(
                f"scores have shape {scores.shape} and {name} {mask.shape}; resize one so that both are the same (H, W)"
            )
        if mask.dtype != np.bool_:
            raise InvalidImageError(f"{name} has dtype {mask.dtype}; pass a boolean mask, such as {name} > 0")
    counted = scores[chosen]
    # float32 holds few enough values to sort fast; others are rare, and float64 holds them all.
    counted = counted if counted.dtype == np.float32 else counted.astype(np.float64)
    if not np.isfinite(counted).all():
        bad = np.count_nonzero(~np.isfinite(counted))
        raise InvalidImageError(f"{bad} scores are NaN or infinite; exclude those pixels with valid")
    return counted, truth[chosen]


def region_shares(scores: ScoreMap, truth: Mask, *, valid: Mask | None) -> tuple[ScoreMap, NDArray[np.float64]]:
    """Return the counted scores of an image, and of each of their pixels the share of its region (good ones: 0).

    Parameters and errors are those of :func:`ssdnet_core.pooling.evaluate_map`. Regions are formed of the pixels that
    count only, as if the rest had been cropped.
    """
    counted, _ = _counted(scores, truth, valid=valid)
    regions, _ = ndimage.label(truth if valid is None else truth & valid, structure=EIGHT_CONNECTED)
    flat = regions.ravel() if valid is None else regions[valid]
    return counted, np.where(flat > 0, 1.0 / np.bincount(flat)[flat], 0.0)


def area_up_to(limit: float, x: NDArray[np.float64], *, y: NDArray[np.float64]) -> float:
    """Integrate the piecewise linear curve from x = 0 to `limit` and divide by it; x ascends to 1."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        y_limit = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], y_limit)
    return float(np.trapezoid(y, x)) / limit
