"""How well anomaly maps find the defects: pixel-level metrics against ground-truth masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ssdnet_core.errors import InvalidConfigError, InvalidImageError

ScoreMap = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

FPR_LIMIT = 0.3
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class BestF1:
    """The largest F1, precision and recall in [0, 1] with ``scores >= threshold`` called defective."""

    f1: float
    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class PixelMetrics:
    """In [0, 1], nan if undefined: `pixel_auroc`, `pixel_average_precision`, `aupro` (FPR up to 0.3), `best_f1`."""

    auroc: float
    average_precision: float
    aupro: float
    f1: float


def pixel_auroc(scores: ScoreMap, truth: Mask, *, valid: Mask | None = None) -> float:
    """Area under the ROC curve over pixels.

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
    float
        In [0, 1]; nan if the counted pixels are all defective, all good, or none.

    Raises
    ------
    InvalidImageError
        A `ValueError`: shapes differ, a mask is not boolean, or a counted score is NaN or infinite.
    """
    from sklearn.metrics import roc_auc_score  # It takes a second: who only counts pixels does without.

    counted, labels = _counted(scores, truth, valid)
    return float(roc_auc_score(labels, counted)) if _has_both_classes(labels) else float("nan")


def pixel_average_precision(scores: ScoreMap, truth: Mask, *, valid: Mask | None = None) -> float:
    """Area under the precision-recall curve over pixels, as average precision.

    Parameters, returns and errors are those of `pixel_auroc`. A step sum: the trapezoid rule is too
    optimistic between the points (Davis and Goadrich, ICML 2006, section 4).
    """
    from sklearn.metrics import average_precision_score

    counted, labels = _counted(scores, truth, valid)
    return float(average_precision_score(labels, counted)) if _has_both_classes(labels) else float("nan")


def best_f1(scores: ScoreMap, truth: Mask, *, valid: Mask | None = None) -> BestF1:
    """Find the threshold that maximises F1 over pixels, knowing the truth: an upper bound in use.

    Parameters and errors are those of `pixel_auroc`. Among equal F1 the lowest threshold is chosen,
    the one with the largest recall. All fields are nan where `pixel_auroc` is.
    """
    counted, labels = _counted(scores, truth, valid)
    return _best_f1(labels, counted) if _has_both_classes(labels) else BestF1(*[float("nan")] * 4)


def intersection_over_union(found: Mask, truth: Mask, *, valid: Mask | None = None) -> float:
    """Share of the pixels found or defective that are both; in [0, 1], nan if there is none of either.

    Parameters and errors are those of `pixel_auroc`, with the pixels called defective, (H, W) bool, as its scores.
    """
    called, labels = _counted(found.astype(np.float32), truth, valid)
    union = np.count_nonzero((called > 0) | labels)
    return np.count_nonzero(called[labels]) / union if union else float("nan")


def _best_f1(labels: Mask, scores: ScoreMap) -> BestF1:
    from sklearn.metrics import precision_recall_curve

    # The curve's last point, recall 0, belongs to no threshold.
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1], recall[:-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1))
    return BestF1(float(f1[best]), float(thresholds[best]), float(precision[best]), float(recall[best]))


def aupro(
    scores: Sequence[ScoreMap],
    truths: Sequence[Mask],
    *,
    fpr_limit: float = FPR_LIMIT,
    valids: Sequence[Mask | None] | None = None,
) -> float:
    """Area under the per-region-overlap curve, over all images together (Bergmann et al., IJCV 129, 2021).

    Every region, an 8-connected component of a mask, weighs the same whatever its size: the curve is
    the mean share of a region that is found, against the share of good pixels wrongly found. It has
    a point at each distinct score, is linear between them, and is integrated up to `fpr_limit`.

    Parameters
    ----------
    scores : sequence of ndarray of shape (H, W), float
        Anomaly maps, higher is more anomalous, on one common scale; sizes may differ.
    truths : sequence of ndarray of shape (H, W), bool
        True at defective pixels, one mask for each map; all False for a good image.
    fpr_limit : float
        False positive rate where the integral ends, in (0, 1].
    valids : sequence of ndarray of shape (H, W), bool, or None, optional
        True where a pixel counts; regions are formed of those only, as if the rest had been cropped.

    Returns
    -------
    float
        Divided by `fpr_limit`, hence in [0, 1]; nan if no counted pixel is defective, or none good.

    Raises
    ------
    InvalidImageError, InvalidConfigError
        Both a `ValueError`: see `pixel_auroc`; `fpr_limit` out of range, no images, or lists of different lengths.
    """
    if not 0 < fpr_limit <= 1:
        raise InvalidConfigError(f"fpr_limit is {fpr_limit}; choose one in (0, 1], such as 0.3")
    masks = [None] * len(scores) if valids is None else valids
    if len(scores) == 0 or not len(scores) == len(truths) == len(masks):
        raise InvalidConfigError(
            f"got {len(scores)} score maps, {len(truths)} truths and {len(masks)} valid masks; "
            "pass at least one map, and one truth (and one valid mask) for each"
        )
    images = zip(*region_shares(scores, truths, masks), strict=True)
    counted, shares = (np.concatenate(parts) for parts in images)
    if not shares.any() or shares.all():
        return float("nan")
    order = np.argsort(counted)[::-1]
    # One point for each distinct score: the order among equal ones must not matter.
    last_of_ties = np.append(np.diff(counted[order]) != 0, True)
    fpr, overlap = (np.append(0.0, np.cumsum(values[order])[last_of_ties]) for values in (shares == 0, shares))
    return area_up_to(fpr_limit, fpr / fpr[-1], overlap / overlap[-1])


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


def _counted(scores: ScoreMap, truth: Mask, valid: Mask | None) -> tuple[ScoreMap, Mask]:
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


def _has_both_classes(labels: Mask) -> bool:
    return bool(labels.any() and not labels.all())


def region_shares(
    scores: Sequence[ScoreMap], truths: Sequence[Mask], valids: Sequence[Mask | None]
) -> Iterator[tuple[ScoreMap, NDArray[np.float64]]]:
    """For each image its counted scores, and of each pixel the share of its region (good ones: 0)."""
    for score, truth, valid in zip(scores, truths, valids, strict=True):
        counted, _ = _counted(score, truth, valid)
        regions, _ = ndimage.label(truth if valid is None else truth & valid, structure=_EIGHT_CONNECTED)
        flat = regions.ravel() if valid is None else regions[valid]
        yield counted, np.where(flat > 0, 1.0 / np.bincount(flat)[flat], 0.0)


def area_up_to(limit: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Integrate the piecewise linear curve from x = 0 to `limit` and divide by it; x ascends to 1."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        y_limit = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], y_limit)
    return float(np.trapezoid(y, x)) / limit
