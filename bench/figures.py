"""The benchmark's pictures: curves of each category, and its best and worst images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from labelled import photograph
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from ssdnet_core.metrics import FPR_LIMIT, metrics_of
from ssdnet_core.pixel_counts import PixelCounts, merged_counts
from ssdnet_core.significance import REFERENCE_AREA, alarm_level
from tasks.image_metrics import ImageMetrics, MeasuredImage
from tasks.inspection import Inspection
from tasks.maps import read_map
from tasks.records import ImageRecord

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8c564b")
"""Okabe and Ito's, for the colour-blind, and two more."""
DASHES = ("-", "--", ":")
LOWEST_FPR = 1e-4
MOST_POINTS = 2000
COLOUR_MAP = "inferno"
TRUTH_COLOUR = "#00e5ff"
MOST_LETTERS = 44
"""Of an image's name above its picture."""

LONGEST = 3.0
"""Ratio of sides above which only the surroundings of the defect are shown."""


def draw_curves(images: Sequence[MeasuredImage], path: Path) -> None:
    """Draw ROC and precision-recall curves, full frame, a line for the pixels of each category's defective images."""
    figure = Figure(figsize=(13.5, 5.2), layout="constrained")
    roc, recall = figure.subplots(1, 2)
    bad = [image for image in images if image.metrics.truly_defective]
    categories = sorted({image.metrics.category for image in bad})
    width = max(map(len, [*categories, "category"]))
    for number, category in enumerate(categories):
        counts = [image.counts[0] for image in bad if image.counts and image.metrics.category == category]
        pool = merged_counts(counts)
        pooled = metrics_of(pool)
        labels, scores, weights = _weighted_pixels(pool)
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
            "linewidth": 1.8,
        }
        fpr, tpr, _ = roc_curve(labels, scores, sample_weight=weights)
        label = f"{category:{width}}  {pooled.auroc:.3f}  {pooled.average_precision:.3f}"
        roc.plot(*_thinned(fpr, tpr), label=label, **style)
        precision, found, _ = precision_recall_curve(labels, scores, sample_weight=weights)
        recall.plot(*_thinned(found, precision), **style)
    chance = np.geomspace(LOWEST_FPR, 1, 100)
    roc.plot(chance, chance, color="#bbbbbb", linewidth=1, zorder=0)
    roc.axvline(FPR_LIMIT, color="#bbbbbb", linewidth=1, linestyle=":", zorder=0)
    roc.text(FPR_LIMIT, 0.02, "AUPRO's limit ", rotation=90, ha="right", va="bottom", fontsize=8, color="#888888")
    roc.set(xscale="log", xlim=(LOWEST_FPR, 1), xlabel="false positive rate (logarithmic)", ylabel="true positive rate")
    recall.set(xlim=(0, 1), xlabel="recall", ylabel="precision")
    for axes, title in ((roc, "ROC"), (recall, "Precision and recall")):
        axes.set(ylim=(0, 1.01), title=title)
        axes.grid(color="#eeeeee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    # Beside the curves: there is no corner that a good or a bad method leaves free in both.
    monospaced = {"family": "monospace", "size": 9}
    title = f"   {'category':{width}}  AUROC  AUPRC"
    figure.legend(
        loc="outside right upper", title=title, prop=monospaced, title_fontproperties=monospaced, frameon=False
    )
    figure.suptitle("Pixels of the defective images, pooled by category, full frame")
    figure.savefig(path, dpi=120)


def _weighted_pixels(pool: PixelCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, scores and weights (numbers of pixels), each (2 K,), of K levels."""
    labels = np.repeat([False, True], len(pool.levels))
    return labels, np.tile(pool.levels, 2).astype(np.float64), np.concatenate([pool.good, pool.bad]).astype(np.float64)


def draw_contact_sheet(
    images: Sequence[MeasuredImage], records: Sequence[ImageRecord], *, inspection: Inspection, path: Path
) -> None:
    """Draw the worst, the median and the best image of each category: image, truth and map side by side."""
    by_key = {record.key: record for record in records}
    metrics = [image.metrics for image in images]
    rows = [
        _chosen([image for image in metrics if image.category == category])
        for category in sorted({image.category for image in metrics})
    ]
    rows = [row for row in rows if row]
    if not rows:
        return
    highest = 2 * alarm_level(inspection.config.verdict.expected_false_alarms, area=REFERENCE_AREA)
    across = max(len(row) for row in rows)
    figure = Figure(figsize=(5.0 * across + 0.3, 1.88 * len(rows) + 0.5), layout="constrained")
    blocks = np.atleast_2d(figure.subfigures(len(rows), across, squeeze=False, wspace=0.02, hspace=0.0))
    for blocks_of_row, row in zip(blocks, rows, strict=True):
        for block, (label, image) in zip(blocks_of_row, row, strict=False):
            picture = _picture(by_key[image.key], inspection)
            part = "" if picture.whole else ", detail"
            block.suptitle(f"{_title(image)}   {label}{part}", fontsize=9, x=0.01, ha="left")
            _show(block.subplots(1, 3), picture, highest=highest)
    figure.suptitle(
        f"image, truth, anomaly map (0 to {highest:.1f} robust standard deviations, the truth outlined); "
        "AP: average precision of the pixels",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


@dataclass(frozen=True, eq=False)
class _Picture:
    pixels: np.ndarray
    truth: np.ndarray
    anomaly_map: np.ndarray
    whole: bool


def _chosen(images: Sequence[ImageMetrics]) -> list[tuple[str, ImageMetrics]]:
    ranked = sorted((i for i in images if i.truly_defective), key=lambda image: image.average_precision)
    if not ranked:
        return []
    places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
    if len(ranked) == 1:
        places = {0: "only one"}
    elif len(ranked) == 2:
        places = {0: "worst", 1: "best"}
    return [(f"{label}, AP {ranked[place].average_precision:.3f}", ranked[place]) for place, label in places.items()]


def _title(image: ImageMetrics) -> str:
    name = f"{image.category}/{PurePosixPath(image.key).stem}"
    # The middle goes: a category tells one row from another, and the end of a name one image from another.
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS // 2]}\u2026{name[-MOST_LETTERS // 2 + 1 :]}"


def _picture(record: ImageRecord, inspection: Inspection) -> _Picture:
    shown = photograph(inspection.source, record.key)
    pixels, truth = shown.pixels, shown.truth
    if pixels.dtype != np.uint8:
        seen = pixels if shown.missing is None else pixels[~shown.missing]
        pixels = ((pixels.astype(float) - seen.min()) / max(float(np.ptp(seen)), 1e-9)).clip(0, 1)
    anomaly_map = read_map(inspection.folder, record, original_size=True)
    whole = max(truth.shape) <= LONGEST * min(truth.shape)
    if not whole:
        # A strip would be a thin line: the surroundings of its defect, with as much along as across.
        centre, side = np.argwhere(truth).mean(axis=0), min(truth.shape)
        top, left = (int(np.clip(c - side / 2, 0, n - side)) for c, n in zip(centre, truth.shape, strict=True))
        window = np.s_[top : top + side, left : left + side]
        pixels, truth, anomaly_map = pixels[window], truth[window], anomaly_map[window]
    return _Picture(pixels, truth, anomaly_map, whole)


def _show(panels: Sequence[Axes], picture: _Picture, *, highest: float) -> None:
    image, truth, anomalies = panels
    image.imshow(picture.pixels, cmap="gray")
    truth.imshow(picture.truth, cmap="gray", interpolation="nearest")
    anomalies.imshow(picture.anomaly_map, cmap=colormaps[COLOUR_MAP], vmin=0, vmax=highest)
    anomalies.contour(picture.truth, levels=[0.5], colors=TRUTH_COLOUR, linewidths=0.5, alpha=0.8)
    for axes in panels:
        axes.set_axis_off()


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave points out that no eye can see, so that drawing takes no longer than measuring."""
    step = max(1, len(x) // MOST_POINTS)
    chosen = np.unique(np.append(np.arange(0, len(x), step), len(x) - 1))
    return x[chosen], y[chosen]
