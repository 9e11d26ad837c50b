import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ssdnet_core.metrics import FPR_LIMIT, intersection_over_union, metrics_of, without_border
from ssdnet_core.pixel_counts import merged_counts
from tests.ssdnet_core.exact_metrics import aupro
from tests.ssdnet_core.one_map import count_pixels, evaluate_map

SHAPE = (6, 7)
# Few distinct scores, so that ties are the rule.
tied_scores = arrays(np.float32, SHAPE, elements=st.integers(-3, 4).map(lambda k: k / 4))
loose_scores = arrays(np.float64, SHAPE, elements=st.floats(-1, 1))
score_maps = tied_scores | loose_scores
masks = arrays(np.bool_, SHAPE)
pairs = st.tuples(score_maps, masks)


def same(a, b, tolerance=1e-12):
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, abs=tolerance)


def auroc_by_pairs(scores, truth):
    bad, good = scores[truth][:, None], scores[~truth][None, :]
    return float(np.mean((bad > good) + 0.5 * (bad == good))) if truth.any() and not truth.all() else math.nan


def average_precision_by_thresholds(scores, truth):
    total, recall_before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        recall = (found & truth).sum() / truth.sum()
        total += (recall - recall_before) * (found & truth).sum() / found.sum()
        recall_before = recall
    return total


def f1_by_thresholds(scores, truth):
    found = [scores >= threshold for threshold in np.unique(scores)]
    return max(2 * (each & truth).sum() / (each.sum() + truth.sum()) for each in found)


def aupro_by_thresholds(scores, truths, *, valids=None, fpr_limit=FPR_LIMIT):
    valids = [np.ones(truth.shape, dtype=bool) for truth in truths] if valids is None else valids
    # A Python float compared with a float32 array would be rounded to float32 first.
    scores = [score.astype(np.float64) for score in scores]
    bad = [truth & valid for truth, valid in zip(truths, valids, strict=True)]
    good = [~truth & valid for truth, valid in zip(truths, valids, strict=True)]
    regions, good_pixels = [], sum(pixels.sum() for pixels in good)
    for image, pixels in enumerate(bad):
        labels, count = ndimage.label(pixels, structure=np.ones((3, 3)))
        regions += [(image, labels == label) for label in range(1, count + 1)]
    if not regions or not good_pixels:
        return math.nan
    area, fpr, pro = 0.0, 0.0, 0.0
    counted = np.concatenate([score[valid] for score, valid in zip(scores, valids, strict=True)])
    for threshold in np.unique(counted)[::-1]:
        found = [score >= threshold for score in scores]
        next_pro = np.mean([found[image][region].mean() for image, region in regions])
        next_fpr = sum((f & pixels).sum() for f, pixels in zip(found, good, strict=True)) / good_pixels
        if next_fpr > fpr_limit:
            pro_limit = pro + (next_pro - pro) * (fpr_limit - fpr) / (next_fpr - fpr)
            return (area + (fpr_limit - fpr) * (pro + pro_limit) / 2) / fpr_limit
        area += (next_fpr - fpr) * (pro + next_pro) / 2
        fpr, pro = next_fpr, next_pro
    return area / fpr_limit


@given(pairs)
def test_auroc_is_the_chance_that_a_defective_pixel_outscores_a_good_one(pair):
    assert same(evaluate_map(*pair).auroc, auroc_by_pairs(*pair))


@given(pairs.filter(lambda pair: pair[1].any() and not pair[1].all()))
def test_average_precision_equals_the_sum_over_thresholds(pair):
    assert same(evaluate_map(*pair).average_precision, average_precision_by_thresholds(*pair))


@given(pairs.filter(lambda pair: pair[1].any() and not pair[1].all()))
def test_no_threshold_has_a_better_f1(pair):
    assert same(evaluate_map(*pair).f1, f1_by_thresholds(*pair))


@given(
    st.lists(st.tuples(score_maps, masks, masks), min_size=1, max_size=3), st.sampled_from([0.05, 0.3, 1 / 3, 0.5, 1.0])
)
def test_aupro_equals_the_loop_over_every_threshold_and_region_that_counts(images, fpr_limit):
    scores, truths, valids = zip(*images, strict=True)
    for counting in (None, valids):
        by_thresholds = aupro_by_thresholds(scores, truths, valids=counting, fpr_limit=fpr_limit)
        assert same(aupro(scores, truths, valids=counting, fpr_limit=fpr_limit), by_thresholds)
    of_one = aupro_by_thresholds(scores[:1], truths[:1], valids=valids[:1])
    assert same(evaluate_map(scores[0], truths[0], valid=valids[0]).aupro, of_one)


@given(pairs, masks)
def test_metrics_are_invariant_under_strictly_monotone_transforms(pair, valid):
    scores, truth = pair
    _, ranks = np.unique(scores, return_inverse=True)
    transformed = np.exp(ranks.reshape(SHAPE) / 5.0)
    before, after = evaluate_map(scores, truth, valid=valid), evaluate_map(transformed, truth, valid=valid)
    assert same(before.auroc, after.auroc)
    assert same(before.average_precision, after.average_precision)
    assert same(before.aupro, after.aupro)
    assert same(before.f1, after.f1)


@given(pairs, masks)
def test_excluding_pixels_equals_removing_them(pair, valid):
    scores, truth = pair
    rest = scores[valid][None, :], truth[valid][None, :]
    counted, removed = evaluate_map(scores, truth, valid=valid), evaluate_map(*rest)
    for name in ("auroc", "average_precision", "f1"):
        assert same(getattr(counted, name), getattr(removed, name))


@given(pairs)
def test_excluding_a_border_equals_cropping_it(pair):
    scores, truth = pair
    inner = without_border(SHAPE, 0.2)
    cropped = scores[1:-1, 1:-1], truth[1:-1, 1:-1]
    assert same(aupro([scores], [truth], valids=[inner]), aupro([cropped[0]], [cropped[1]]))
    assert same(evaluate_map(scores, truth, valid=inner).auroc, evaluate_map(*cropped).auroc)


@given(masks.filter(lambda truth: truth.any() and not truth.all()))
def test_perfect_scores_give_one_and_inverted_ones_zero(truth):
    perfect = evaluate_map(truth.astype(np.float32), truth)
    assert (perfect.auroc, perfect.average_precision, perfect.f1) == (1, 1, 1)
    assert perfect.aupro == pytest.approx(1, abs=1e-12)
    inverted = evaluate_map(1.0 - truth, truth)
    assert inverted.auroc == 0


def test_constant_scores_give_the_diagonal():
    truth = np.zeros(SHAPE, dtype=bool)
    truth[2, 2:5] = True
    flat = np.zeros(SHAPE)
    metrics = evaluate_map(flat, truth)
    assert metrics.auroc == 0.5
    assert metrics.average_precision == pytest.approx(truth.mean())
    assert metrics.aupro == aupro([flat], [truth]) == pytest.approx(0.15)


def test_small_and_large_regions_weigh_the_same_in_aupro():
    truth = np.zeros((20, 20), dtype=bool)
    truth[2, 2] = truth[8:18, 8:18] = True
    only_large = truth.astype(float)
    only_large[2, 2] = -1
    # One of two regions is found at once, the other with the last threshold of all.
    metrics = evaluate_map(only_large, truth)
    assert metrics.aupro == pytest.approx(0.5)
    assert metrics.auroc > 0.98


def test_diagonal_neighbours_are_one_region():
    truth = np.eye(2, dtype=bool)
    scores = np.array([[2.0, 0.0], [1.0, 1.0]])
    assert aupro([scores], [truth], fpr_limit=1.0) == pytest.approx(
        aupro_by_thresholds([scores], [truth], fpr_limit=1.0)
    )
    assert aupro([scores], [truth], fpr_limit=1.0) == pytest.approx(0.875)


@given(score_maps, st.booleans())
def test_one_class_only_gives_nan(scores, defective):
    truth = np.full(SHAPE, defective)
    metrics = evaluate_map(scores, truth)
    assert all(math.isnan(value) for value in (metrics.auroc, metrics.average_precision, metrics.aupro, metrics.f1))


def test_no_counted_pixel_gives_nan():
    nothing = np.zeros(SHAPE, dtype=bool)
    metrics = evaluate_map(np.zeros(SHAPE), np.eye(*SHAPE, dtype=bool), valid=nothing)
    assert math.isnan(metrics.auroc)
    assert math.isnan(metrics.aupro)


def test_images_of_different_sizes_and_good_images_count_in_aupro():
    truth = np.zeros((4, 4), dtype=bool)
    truth[1, 1] = True
    scores = truth + 0.0
    assert aupro([scores], [truth]) == 1
    alarm = np.full((8, 9), 2.0)
    assert aupro([scores, alarm], [truth, np.zeros((8, 9), dtype=bool)]) == 0


def test_nan_scores_count_as_an_error_unless_excluded():
    scores = np.random.default_rng(0).random(SHAPE)
    truth = scores > 0.5
    scores[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"1 scores are NaN.*exclude"):
        evaluate_map(scores, truth)
    with pytest.raises(ValueError, match="NaN"):
        count_pixels(scores, truth)
    assert evaluate_map(scores, truth, valid=np.isfinite(scores)).auroc == 1


@pytest.mark.parametrize("metric", [evaluate_map, count_pixels])
def test_shape_mismatches_name_both_shapes_and_the_remedy(metric):
    with pytest.raises(ValueError, match=r"\(6, 7\) and truth \(7, 6\).*resize"):
        metric(np.zeros(SHAPE), np.zeros((7, 6), dtype=bool))
    with pytest.raises(ValueError, match=r"\(6, 7\) and valid \(1, 7\).*resize"):
        metric(np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool), valid=np.ones((1, 7), dtype=bool))
    with pytest.raises(ValueError, match=r"\(6, 7, 3\) and truth"):
        metric(np.zeros((6, 7, 3)), np.zeros(SHAPE, dtype=bool))


def test_masks_of_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="truth has dtype uint8"):
        evaluate_map(np.zeros(SHAPE), np.full(SHAPE, 255, dtype=np.uint8))


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 0.499))
def test_the_border_is_symmetric_of_the_given_width_and_leaves_something(height, width, fraction):
    valid = without_border((height, width), fraction)
    assert valid.shape == (height, width)
    assert valid.any()
    assert (valid == valid[::-1, ::-1]).all()
    for counted, side in ((valid.any(axis=1).sum(), height), (valid.any(axis=0).sum(), width)):
        assert counted == max(side - 2 * round(fraction * side), 2 - side % 2)


def test_the_border_of_the_published_evaluation():
    assert without_border((1024, 1024), 100 / 1024).sum() == 824**2
    assert without_border((5, 8), 0.0).all()


@pytest.mark.parametrize("fraction", [-0.1, 0.5, 2.0, math.nan])
def test_borders_out_of_range_are_refused(fraction):
    with pytest.raises(ValueError, match=r"choose one in \[0, 0.5\)"):
        without_border(SHAPE, fraction)


@given(masks, masks, masks)
def test_iou_is_the_number_of_pixels_in_both_over_those_in_either(found, truth, valid):
    both = sum(bool(f and t) for f, t, v in zip(found.flat, truth.flat, valid.flat, strict=True) if v)
    either = sum(bool(f or t) for f, t, v in zip(found.flat, truth.flat, valid.flat, strict=True) if v)
    assert same(intersection_over_union(found, truth, valid=valid), both / either if either else math.nan)


def test_iou_of_known_masks():
    found, truth = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    found[0, :3] = truth[0, 1:4] = True
    assert intersection_over_union(found, truth) == 0.5
    assert intersection_over_union(found, found) == 1
    assert intersection_over_union(found, ~found) == 0
    with pytest.raises(ValueError, match="resize"):
        intersection_over_union(found, truth[:2])


@given(st.lists(st.tuples(tied_scores, masks, masks), min_size=1, max_size=4))
def test_pooled_metrics_are_those_of_the_concatenated_pixels(images):
    # Multiples of a quarter lose nothing when they are cut.
    scores, truths, valids = zip(*images, strict=True)
    pooled = metrics_of(merged_counts([count_pixels(s, t, valid=v) for s, t, v in images]))
    flat = np.concatenate([s[v] for s, _, v in images])[None], np.concatenate([t[v] for _, t, v in images])[None]
    assert same(pooled.auroc, auroc_by_pairs(*flat))
    if flat[1].any() and not flat[1].all():
        assert same(pooled.average_precision, average_precision_by_thresholds(*flat))
        assert same(pooled.f1, f1_by_thresholds(*flat))
    assert same(pooled.aupro, aupro_by_thresholds(scores, truths, valids=valids))


def test_pooling_knows_one_threshold_for_all_images():
    truth = np.zeros((4, 4), dtype=bool)
    truth[1, 1] = True
    faint, strong = truth * 1.0, truth * 1.0 + 5
    assert evaluate_map(faint, truth).auroc == evaluate_map(strong, truth).auroc == 1
    assert metrics_of(merged_counts([count_pixels(faint, truth), count_pixels(strong, truth)])).auroc == pytest.approx(
        1 - 15 / 60
    )


def test_nothing_to_pool_gives_nan():
    good = count_pixels(np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool))
    for images in ([], [good]):
        pooled = metrics_of(merged_counts(images))
        assert all(math.isnan(v) for v in (pooled.auroc, pooled.average_precision, pooled.aupro, pooled.f1))
