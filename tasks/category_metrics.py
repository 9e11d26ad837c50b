"""Metrics of a batch: those of its images averaged over each category, and those of the categories overall."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from ssdnet_core.metrics import Metric, PixelMetrics, metrics_of, pooling_error
from ssdnet_core.pixel_counts import merged_counts
from tasks.image_metrics import FrameCounts, ImageMetrics, MeasuredImage, UnmeasuredImage

POOLED_AT_ONCE = 16
"""Images whose pixels are held before they are put together."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """What came of measuring some images, small enough to travel.

    Attributes
    ----------
    images, unmeasured
        Metrics of each image, or why it has none; in no order.
    pools
        Pixel counts of the defective images, by category.
    """

    images: tuple[ImageMetrics, ...] = ()
    unmeasured: tuple[UnmeasuredImage, ...] = ()
    pools: Mapping[str, FrameCounts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PooledMetrics:
    """Metrics of the pixels of many images together.

    Attributes
    ----------
    pooled, pooled_border_ignored
        From the pixels at the images' own sizes, by fine histograms: :func:`ssdnet_core.pixel_counts.cut_counts`.
    pooled_error
        By how much the histograms can have changed `pooled`: :func:`ssdnet_core.metrics.pooling_error`.
    """

    pooled: PixelMetrics
    pooled_border_ignored: PixelMetrics
    pooled_error: PixelMetrics


@dataclass(frozen=True, kw_only=True)
class VerdictCounts:
    """What verdicts did on many images, NaN where undefined."""

    defective: int
    good: int
    unmeasured: int
    hit_rate: Metric
    regions: int
    region_precision: Metric
    false_alarm_rate: Metric
    image_auroc: Metric
    seconds: Metric


@dataclass(frozen=True, kw_only=True)
class CategoryMetrics(PixelMetrics, PooledMetrics, VerdictCounts):
    """Metrics of a category, NaN where undefined: :data:`tasks.evaluation_file.MEANINGS` has each of them.

    Pixel metrics, ``iou`` and ``border_ignored`` are means over the defective images. An image whose defect lies wholly
    in the border does not count in ``border_ignored``.
    """

    category: str
    iou: Metric
    border_ignored: PixelMetrics


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The metrics of a batch; ``mean`` has verdicts on all images, since many categories have no good ones."""

    images: tuple[ImageMetrics, ...]
    unmeasured: tuple[UnmeasuredImage, ...]
    categories: tuple[CategoryMetrics, ...]
    mean: CategoryMetrics


def gathered(results: Iterable[MeasuredImage | UnmeasuredImage]) -> Measurements:
    """Put the measurements of single images together, holding the pixels of few of them at a time."""
    images: list[ImageMetrics] = []
    unmeasured: list[UnmeasuredImage] = []
    pools: dict[str, list[FrameCounts]] = {}
    for result in results:
        if isinstance(result, UnmeasuredImage):
            unmeasured.append(result)
            continue
        images.append(result.metrics)
        if result.counts:
            pool = pools.setdefault(result.metrics.category, [])
            pool.append(result.counts)
            if len(pool) == POOLED_AT_ONCE:
                pool[:] = [_merged_pool(pool)]
    return Measurements(
        tuple(images), tuple(unmeasured), {category: _merged_pool(pool) for category, pool in pools.items()}
    )


def merged(parts: Sequence[Measurements]) -> Measurements:
    """Put measurements of different images together."""
    categories = {category for part in parts for category in part.pools}
    return Measurements(
        images=tuple(image for part in parts for image in part.images),
        unmeasured=tuple(image for part in parts for image in part.unmeasured),
        pools={
            category: _merged_pool([part.pools[category] for part in parts if category in part.pools])
            for category in categories
        },
    )


def summarise_metrics(measured: Measurements) -> Evaluation:
    """Average the images' metrics by category, and these overall; verdicts are counted. Images are in order of keys."""
    images = tuple(sorted(measured.images, key=lambda image: image.key))
    unmeasured = tuple(sorted(measured.unmeasured, key=lambda image: image.key))
    of_category: defaultdict[str, tuple[list[ImageMetrics], list[UnmeasuredImage]]] = defaultdict(lambda: ([], []))
    for image in images:
        of_category[image.category][0].append(image)
    for missed in unmeasured:
        of_category[missed.category][1].append(missed)
    rows = [
        _row(
            name,
            [image for image in here if image.truly_defective],
            pools=_of_pool(measured.pools.get(name, (merged_counts([]), merged_counts([])))),
            verdicts=_counts(here, missing),
        )
        for name, (here, missing) in sorted(of_category.items())
    ]
    mean = _row("mean", rows, pools=_mean_pools(rows), verdicts=_counts(images, unmeasured))
    return Evaluation(images=images, unmeasured=unmeasured, categories=tuple(rows), mean=mean)


def _row(
    category: str,
    averaged: Sequence[ImageMetrics | CategoryMetrics],
    *,
    pools: PooledMetrics,
    verdicts: VerdictCounts,
) -> CategoryMetrics:
    return CategoryMetrics(
        category=category,
        iou=_mean(one.iou for one in averaged),
        border_ignored=_mean_of([one.border_ignored for one in averaged]),
        **vars(_mean_of(averaged)),
        **vars(pools),
        **vars(verdicts),
    )


def _of_pool(counts: FrameCounts) -> PooledMetrics:
    full, inner = counts
    return PooledMetrics(
        pooled=metrics_of(full), pooled_border_ignored=metrics_of(inner), pooled_error=pooling_error(full)
    )


def _mean_pools(rows: Sequence[PooledMetrics]) -> PooledMetrics:
    return PooledMetrics(
        pooled=_mean_of([row.pooled for row in rows]),
        pooled_border_ignored=_mean_of([row.pooled_border_ignored for row in rows]),
        pooled_error=_mean_of([row.pooled_error for row in rows]),
    )


def _merged_pool(pools: Sequence[FrameCounts]) -> FrameCounts:
    full, inner = (merged_counts([pool[frame] for pool in pools]) for frame in (0, 1))
    return full, inner


def _counts(images: Sequence[ImageMetrics], unmeasured: Sequence[UnmeasuredImage]) -> VerdictCounts:
    from sklearn.metrics import roc_auc_score  # It takes a second, and an inspection does without.

    bad, good = ([i for i in images if i.truly_defective == defective] for defective in (True, False))
    regions = sum(image.regions for image in images)
    truth, scores = [image.truly_defective for image in images], [image.score for image in images]
    return VerdictCounts(
        defective=len(bad),
        good=len(good),
        unmeasured=len(unmeasured),
        hit_rate=_mean(float(image.touching > 0) for image in bad),
        regions=regions,
        region_precision=sum(image.touching for image in images) / regions if regions else math.nan,
        false_alarm_rate=_mean(float(image.defective) for image in good),
        image_auroc=float(roc_auc_score(truth, scores)) if bad and good else math.nan,
        seconds=_mean(image.seconds for image in images),
    )


def _mean_of(rows: Sequence[PixelMetrics]) -> PixelMetrics:
    return PixelMetrics(*(_mean(getattr(row, field.name) for row in rows) for field in fields(PixelMetrics)))


def _mean(values: Iterable[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else math.nan
