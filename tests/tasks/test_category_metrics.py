import math

import numpy as np
import pytest

from ssdnet_core.metrics import PixelMetrics, metrics_of, pooling_error
from ssdnet_core.pixel_counts import merged_counts
from tasks.category_metrics import POOLED_AT_ONCE, gathered, summarise_metrics
from tasks.image_metrics import ImageMetrics, MeasuredImage, UnmeasuredImage
from tests.ssdnet_core.one_map import count_pixels


def measured(category, *, bad, value=math.nan, regions=(0, 0), score=0.0, seconds=1.0, seed=0, inner=None):
    """An image of random pixels: its metrics are given, its pixels are for pooling."""
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, 9, (6, 6)) / 4, np.zeros((6, 6), dtype=bool)
    truth[1:3, 1:4] = bad
    border = value if inner is None else inner
    metrics = ImageMetrics(
        **dict.fromkeys(("auroc", "average_precision", "aupro", "f1", "iou"), value),
        border_ignored=PixelMetrics(border, border, border, border),
        key=f"{category}/{seed}",
        category=category,
        truly_defective=bad,
        defective=regions[0] > 0,
        regions=regions[0],
        touching=regions[1],
        score=score,
        seconds=seconds,
    )
    counts = (count_pixels(scores, truth), count_pixels(scores[1:-1], truth[1:-1])) if bad else None
    return MeasuredImage(metrics, counts)


def night():
    return [
        measured("a", bad=True, value=0.5, regions=(3, 2), score=3.0, seconds=4.0, seed=1),
        measured("a", bad=True, value=0.7, regions=(1, 0), score=0.0, seed=2, inner=math.nan),
        measured("b", bad=True, value=1.0, regions=(1, 1), score=4.0, seed=3),
        measured("b", bad=False, regions=(2, 0), score=2.0, seed=4),
        measured("b", bad=False, score=1.0, seed=5),
        measured("c_free", bad=False, score=0.5, seed=6),
    ]


def test_means_are_taken_over_images_first_and_categories_then():
    evaluation = summarise_metrics(gathered(night()))
    for name in ("auroc", "average_precision", "aupro", "f1", "iou"):
        assert getattr(evaluation.mean, name) == pytest.approx((0.6 + 1.0) / 2)
    assert evaluation.mean.hit_rate == pytest.approx(2 / 3)
    assert evaluation.mean.false_alarm_rate == pytest.approx(1 / 3)
    assert evaluation.mean.image_auroc == pytest.approx(6 / 9)
    assert evaluation.mean.seconds == pytest.approx(9 / 6)
    assert [category.category for category in evaluation.categories] == ["a", "b", "c_free"]
    assert [(row.defective, row.good) for row in evaluation.categories] == [(2, 0), (1, 2), (0, 1)]
    assert [row.false_alarm_rate for row in evaluation.categories[1:]] == [0.5, 0]
    assert math.isnan(evaluation.categories[0].false_alarm_rate)
    assert math.isnan(evaluation.categories[2].auroc)


def test_region_precision_counts_regions_on_good_images_as_well():
    evaluation = summarise_metrics(gathered(night()))
    assert [row.regions for row in evaluation.categories] == [4, 3, 0]
    assert evaluation.categories[0].region_precision == pytest.approx(2 / 4)
    assert evaluation.categories[1].region_precision == pytest.approx(1 / 3)
    assert math.isnan(evaluation.categories[2].region_precision)
    assert evaluation.mean.region_precision == pytest.approx(3 / 7)


def test_an_image_whose_defect_lies_in_the_border_is_left_out_of_that_mean_only():
    evaluation = summarise_metrics(gathered(night()))
    assert evaluation.categories[0].auroc == pytest.approx(0.6)
    assert evaluation.categories[0].border_ignored.auroc == pytest.approx(0.5)


def test_pooled_metrics_take_the_defective_images_of_a_category_and_their_mean_the_categories():
    images = night()
    evaluation = summarise_metrics(gathered(images))
    for frame, name in enumerate(("pooled", "pooled_border_ignored")):
        a = metrics_of(merged_counts([image.counts[frame] for image in images[:2]]))
        b = metrics_of(merged_counts([images[2].counts[frame]]))
        assert a.auroc != b.auroc
        assert [getattr(row, name) for row in evaluation.categories[:2]] == [a, b]
        assert math.isnan(getattr(evaluation.categories[2], name).auroc)
        assert getattr(evaluation.mean, name).aupro == pytest.approx((a.aupro + b.aupro) / 2)


def test_unmeasured_images_are_counted_and_listed_and_nothing_else():
    missed = [
        UnmeasuredImage(key="b/x", category="b", reason="no mask"),
        UnmeasuredImage(key="d/y", category="d", reason="no mask"),
    ]
    evaluation = summarise_metrics(gathered([*missed[::-1], *night()[::-1]]))
    assert evaluation.unmeasured == tuple(missed)
    assert [image.key for image in evaluation.images] == [one.metrics.key for one in night()]
    assert evaluation.mean.auroc == summarise_metrics(gathered(night())).mean.auroc
    assert [(row.category, row.unmeasured) for row in evaluation.categories] == [
        ("a", 0),
        ("b", 1),
        ("c_free", 0),
        ("d", 1),
    ]
    assert evaluation.mean.unmeasured == 2


def test_no_pixel_is_lost_where_more_images_than_are_held_at_once_are_pooled():
    images = [measured("a", bad=True, value=0.5, seed=seed) for seed in range(2 * POOLED_AT_ONCE + 3)]
    [row] = summarise_metrics(gathered(images)).categories
    for frame, name in enumerate(("pooled", "pooled_border_ignored")):
        assert getattr(row, name) == metrics_of(merged_counts([image.counts[frame] for image in images]))


def test_the_error_of_pooling_is_that_of_the_full_frames_histograms_and_its_mean_the_categories():
    images = night()
    evaluation = summarise_metrics(gathered(images))
    a, b = (pooling_error(merged_counts([i.counts[0] for i in part])) for part in (images[:2], images[2:3]))
    assert [row.pooled_error for row in evaluation.categories[:2]] == [a, b]
    assert evaluation.mean.pooled_error.aupro == pytest.approx((a.aupro + b.aupro) / 2)
