"""What is counted, and metrics by counts: against scikit-learn on all pixels, within the stated bound."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ssdnet_core.metrics import metrics_of, pooling_error
from ssdnet_core.pixel_counts import merged_counts
from tests.ssdnet_core.exact_metrics import aupro
from tests.ssdnet_core.one_map import count_pixels, evaluate_map

SHAPE = (6, 7)
masks = arrays(np.bool_, SHAPE)
tied_scores = arrays(np.float32, SHAPE, elements=st.integers(-3, 4).map(lambda k: k / 4))
# In five levels: nearly every one holds several of them.
crowded_scores = arrays(np.float32, SHAPE, elements=st.floats(1.0, 1.00390625, width=32))
images = st.lists(st.tuples(crowded_scores, masks), min_size=1, max_size=4)
NAMES = ("auroc", "average_precision", "aupro", "f1")


def exact(scores, truths):
    """By scikit-learn, and AUPRO by its definition, on all pixels of all images."""
    flat, labels = np.concatenate([s.ravel() for s in scores]), np.concatenate([t.ravel() for t in truths])
    precision, recall, _ = precision_recall_curve(labels, flat)
    return {
        "auroc": roc_auc_score(labels, flat),
        "average_precision": average_precision_score(labels, flat),
        "aupro": aupro(list(scores), list(truths)),
        "f1": max(2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r > 0),
    }


def has_both_classes(truths):
    return any(t.any() for t in truths) and not all(t.all() for t in truths)


@given(tied_scores | crowded_scores, masks)
def test_the_metrics_of_one_map_are_scikit_learns(scores, truth):
    metrics = evaluate_map(scores, truth)
    if not has_both_classes([truth]):
        assert all(math.isnan(getattr(metrics, name)) for name in NAMES)
        return
    for name, value in exact([scores], [truth]).items():
        assert getattr(metrics, name) == pytest.approx(value, abs=1e-12)


@given(images)
def test_pooled_metrics_are_within_the_stated_error_of_scikit_learns(drawn):
    scores, truths = zip(*drawn, strict=True)
    if not has_both_classes(truths):
        return
    counts = merged_counts([count_pixels(s, t) for s, t in drawn])
    pooled, error = metrics_of(counts), pooling_error(counts)
    for name, value in exact(scores, truths).items():
        assert abs(getattr(pooled, name) - value) <= getattr(error, name) + 1e-12, name


def test_the_stated_error_is_what_the_best_order_within_a_level_makes_of_it():
    truth = np.zeros((5, 8), dtype=bool)
    truth[1:3, 2:5] = True
    scores = np.float32(1) + np.float32(1e-4) * truth
    counts = count_pixels(scores, truth)
    assert len(counts.levels) == 1
    best, pooled, error = evaluate_map(scores, truth), metrics_of(counts), pooling_error(counts)
    for name in ("auroc", "aupro"):
        assert getattr(best, name) == 1
        assert getattr(error, name) == pytest.approx(1 - getattr(pooled, name))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_stated_error_of_a_large_pool_is_small_and_holds(scale):
    rng = np.random.default_rng(0)
    scores, truths = [], []
    for _ in range(8):
        truth = np.zeros((200, 200), dtype=bool)
        truth[20:50, 30:60] = True
        scores.append(((rng.gamma(2.0, 2.0, truth.shape) + 4 * truth) * scale).astype(np.float32))
        truths.append(truth)
    counts = merged_counts([count_pixels(s, t) for s, t in zip(scores, truths, strict=True)])
    pooled, error = metrics_of(counts), pooling_error(counts)
    for name, value in exact(scores, truths).items():
        assert abs(getattr(pooled, name) - value) <= getattr(error, name)
        assert getattr(error, name) < 2e-3


@given(st.lists(st.tuples(tied_scores, masks), min_size=1, max_size=6), st.integers(0, 6))
def test_merging_in_groups_is_merging_at_once(drawn, cut):
    counts = [count_pixels(s, t) for s, t in drawn]
    at_once, in_groups = (
        merged_counts(counts),
        merged_counts([merged_counts(counts[:cut]), merged_counts(counts[cut:])]),
    )
    for name in ("levels", "good", "bad"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(in_groups, name))
    np.testing.assert_allclose(at_once.shares, in_groups.shares, rtol=1e-12)
    assert metrics_of(in_groups).auroc == pytest.approx(metrics_of(merged_counts(counts)).auroc, abs=1e-12, nan_ok=True)


@given(st.integers(2, 40))
def test_the_levels_of_a_pool_do_not_grow_with_its_images(count):
    rng = np.random.default_rng(0)
    truth = np.zeros((32, 32), dtype=bool)
    truth[:4] = True
    parts = [count_pixels(rng.uniform(1, 2, truth.shape).astype(np.float32), truth) for _ in range(count)]
    pool = merged_counts(parts)
    assert len(pool.levels) <= 1024
    assert pool.good.sum() + pool.bad.sum() == count * truth.size


def test_nothing_has_no_levels_and_no_metrics():
    empty = merged_counts([])
    assert len(empty.levels) == 0
    for metrics in (metrics_of(empty), pooling_error(empty)):
        assert all(math.isnan(getattr(metrics, name)) for name in NAMES)


def test_zero_and_minus_zero_are_one_level():
    counts = count_pixels(np.array([[0.0, -0.0, -1e-45]], dtype=np.float32), np.zeros((1, 3), dtype=bool))
    assert counts.levels.tolist() == [0.0]
    assert counts.good.tolist() == [3]


@given(arrays(np.float32, (40,), elements=st.floats(-1e6, 1e6, width=32)))
def test_cutting_scores_keeps_their_order_and_a_relative_precision_of_a_thousandth(scores):
    scores = np.sort(scores)[None]
    counts = count_pixels(scores, np.zeros(scores.shape, dtype=bool))
    assert (np.diff(counts.levels) > 0).all()
    cut = np.repeat(counts.levels, counts.good)
    normal = np.abs(scores[0]) >= np.finfo(np.float32).tiny
    assert (np.abs(cut - scores[0]) <= np.abs(scores[0]) / 1024)[normal].all()


def test_counting_makes_few_levels_of_many_pixels_and_loses_none():
    rng = np.random.default_rng(0)
    scores = rng.gamma(2.0, 3.0, (400, 500)).astype(np.float32)
    truth = np.zeros(scores.shape, dtype=bool)
    truth[10:60, 20:90] = truth[200:210, 300:330] = True
    scores[truth] += 5
    counts = count_pixels(scores, truth)
    assert len(counts.levels) < 12_000
    assert (counts.good.sum(), counts.bad.sum()) == ((~truth).sum(), truth.sum())
    assert counts.shares.sum() == pytest.approx(2)
    exact, pooled = evaluate_map(scores, truth), metrics_of(merged_counts([counts]))
    for name in ("auroc", "average_precision", "aupro", "f1"):
        assert getattr(pooled, name) == pytest.approx(getattr(exact, name), abs=2e-4)
