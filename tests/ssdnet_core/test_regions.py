import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from ssdnet_core.config import VerdictConfig
from ssdnet_core.regions import enlarge_labels, find_regions, label_regions

# Few distinct values, all exact: neighbours of equal height are the rule.
maps = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.integers(0, 6).map(lambda k: np.float32(k / 4)),
)
thresholds = st.integers(1, 6).map(lambda k: k / 4)


def flooded(levels, threshold):
    """Return the eight-connected parts at or above a threshold, each a list of (row, column)."""
    todo = {(int(row), int(column)) for row, column in np.argwhere(levels >= threshold)}
    parts = []
    while todo:
        part, frontier = [], [todo.pop()]
        while frontier:
            row, column = frontier.pop()
            part.append((row, column))
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & todo
            todo -= around
            frontier += around
        parts.append(part)
    return parts


def described(levels, part):
    """Return (top, left, bottom, right, area, peak, y, x) of a part, at scale 1."""
    rows, columns = np.array(part).T
    weights = levels[rows, columns].astype(np.float64)
    return (
        rows.min(),
        columns.min(),
        rows.max() + 1,
        columns.max() + 1,
        len(part),
        weights.max(),
        (rows * weights).sum() / weights.sum(),
        (columns * weights).sum() / weights.sum(),
    )


def numbers(region):
    return (region.top, region.left, region.bottom, region.right, region.area, region.peak, *region.centroid)


def assert_same(rows, expected):
    rows, expected = (
        sorted((tuple(map(float, row)) for row in each), key=lambda row: (row[:6], np.round(row[6:], 3).tolist()))
        for each in (rows, expected)
    )
    assert len(rows) == len(expected)
    if expected:
        np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-6)


def labels_of(levels, threshold, *, original_shape, anomaly_map=None, alarming=None, **settings):
    """Label the regions of a map, by default down to the threshold and however small."""
    return label_regions(
        levels,
        threshold,
        original_shape=original_shape,
        anomaly_map=levels if anomaly_map is None else anomaly_map,
        alarming=alarming,
        config=VerdictConfig(**{"share_of_peak": 0.0, "min_further_area": 1} | settings),
    )


def regions_of(levels, threshold, *, original_shape, **settings):
    labels = labels_of(levels, threshold, original_shape=original_shape, **settings)
    return find_regions(levels, labels, original_shape=original_shape)


@given(maps, thresholds)
def test_the_regions_are_those_of_a_flood_fill(levels, threshold):
    found = regions_of(levels, threshold, original_shape=levels.shape)
    expected = [described(levels, part) for part in flooded(levels, threshold)]
    assert_same(map(numbers, found), expected)


@given(maps, thresholds, st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.randoms(use_true_random=False))
def test_within_each_of_them_a_second_flood_fill_ends_at_a_share_of_the_highest_value(levels, threshold, share, random):
    anomaly_map = np.array(random.sample(levels.ravel().tolist(), levels.size), np.float32).reshape(levels.shape)
    found = regions_of(levels, threshold, original_shape=levels.shape, anomaly_map=anomaly_map, share_of_peak=share)
    expected = []
    for part in flooded(levels, threshold):
        alone = np.full_like(levels, -1)
        alone[tuple(np.transpose(part))] = anomaly_map[tuple(np.transpose(part))]
        expected += [described(levels, core) for core in flooded(alone, max(0, share * alone.max()))]
    assert_same(map(numbers, found), expected)


def test_what_surrounds_a_strong_defect_is_no_part_of_it_and_a_weak_one_keeps_its_size():
    levels = np.ones((40, 60), np.float32)
    levels[10:30, 10:30], levels[15:25, 15:25] = 8, 40
    levels[10:30, 40:50] = 9
    strong, weak = regions_of(levels, 7, original_shape=levels.shape, share_of_peak=0.4)
    assert (strong.top, strong.left, strong.bottom, strong.right) == (15, 15, 25, 25)
    assert (weak.top, weak.left, weak.bottom, weak.right) == (10, 40, 30, 50)


@given(maps, thresholds)
def test_the_highest_peak_comes_first(levels, threshold):
    peaks = [region.peak for region in regions_of(levels, threshold, original_shape=levels.shape)]
    assert peaks == sorted(peaks, reverse=True)
    assert all(peak >= threshold for peak in peaks)


@given(maps, thresholds, st.integers(1, 20))
def test_regions_smaller_than_the_least_area_are_left_out_and_no_others(levels, threshold, min_area):
    every = regions_of(levels, threshold, original_shape=levels.shape)
    large = regions_of(levels, threshold, original_shape=levels.shape, min_area=min_area)
    assert large == tuple(region for region in every if region.area >= min_area)


@given(maps, thresholds, st.integers(1, 8), st.integers(1, 20))
def test_small_regions_beside_the_highest_are_left_out_whatever_the_original_size(levels, threshold, min_area, further):
    shape = (2 * levels.shape[0], 2 * levels.shape[1])
    large = regions_of(levels, threshold, original_shape=shape, min_area=min_area)
    kept = regions_of(levels, threshold, original_shape=shape, min_area=min_area, min_further_area=further)
    assert kept == large[:1] + tuple(region for region in large[1:] if region.area >= 4 * further)


@given(maps, thresholds, st.integers(0, 2**32 - 1))
def test_regions_without_an_alarming_pixel_are_left_out_but_for_the_highest(levels, threshold, seed):
    alarming = np.random.default_rng(seed).random(levels.shape) < 0.3
    every = labels_of(levels, threshold, original_shape=levels.shape)
    kept = labels_of(levels, threshold, original_shape=levels.shape, alarming=alarming)
    expected = [
        number for number in range(1, every.max(initial=0) + 1) if number == 1 or alarming[every == number].any()
    ]
    assert [set(every[kept == number]) for number in range(1, kept.max(initial=0) + 1)] == [{one} for one in expected]
    assert np.array_equal(kept > 0, np.isin(every, expected))


@given(maps, thresholds, st.integers(1, 8), st.integers(1, 8))
def test_labels_number_the_pixels_of_the_regions(levels, threshold, min_area, further):
    smallest = {"min_area": min_area, "min_further_area": further}
    regions = regions_of(levels, threshold, original_shape=levels.shape, **smallest)
    labels = labels_of(levels, threshold, original_shape=levels.shape, **smallest)
    assert labels.max(initial=0) == len(regions)
    for number, region in enumerate(regions, start=1):
        assert (labels == number).sum() == region.area
        assert levels[labels == number].max() == region.peak
        rows, columns = np.nonzero(labels == number)
        assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == numbers(region)[:4]


@given(maps, thresholds, st.integers(1, 5), st.integers(1, 5))
def test_at_a_larger_original_size_the_regions_are_those_of_the_enlarged_map(levels, threshold, down, right):
    enlarged = levels.repeat(down, axis=0).repeat(right, axis=1)
    from_small = regions_of(levels, threshold, original_shape=enlarged.shape)
    from_large = regions_of(enlarged, threshold, original_shape=enlarged.shape)
    assert_same(map(numbers, from_small), map(numbers, from_large))


@given(maps, thresholds, st.integers(1, 4))
def test_the_least_area_is_in_pixels_of_the_original(levels, threshold, factor):
    shape = (factor * levels.shape[0], factor * levels.shape[1])
    every = regions_of(levels, threshold, original_shape=shape)
    for area in {region.area for region in every}:
        kept = regions_of(levels, threshold, original_shape=shape, min_area=area)
        assert kept == tuple(region for region in every if region.area >= area)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1500), st.integers(0, 1500), st.data())
def test_boxes_cover_their_pixels_and_the_centroid_lies_inside(height, width, more_rows, more_columns, data):
    # Working pixel i covers the original pixels from i * scale to (i + 1) * scale.
    original = (height + more_rows, width + more_columns)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    levels = np.zeros((height, width), dtype=np.float32)
    levels[row, column] = 1
    (region,) = regions_of(levels, 0.5, original_shape=original)
    scales = [whole / side for whole, side in zip(original, levels.shape, strict=True)]
    spans = ((region.top, region.bottom), (region.left, region.right))
    for (start, stop), place, scale, centre in zip(spans, (row, column), scales, region.centroid, strict=True):
        assert 0 <= start <= place * scale + 1e-6
        assert (place + 1) * scale - 1e-6 <= stop
        assert stop - start <= scale + 2
        assert start - 0.5 <= centre <= stop - 0.5
        assert centre == pytest.approx((place + 0.5) * scale - 0.5)
    assert region.area == round(scales[0] * scales[1])


@given(st.integers(32, 400), st.integers(32, 400), st.integers(0, 1500), st.integers(0, 1500))
@example(35, 35, 23, 23)
def test_the_box_of_a_region_at_the_border_ends_with_the_image(height, width, more_rows, more_columns):
    original = (height + more_rows, width + more_columns)
    (region,) = regions_of(np.ones((height, width), np.float32), 0.5, original_shape=original)
    assert (region.top, region.left, region.bottom, region.right) == (0, 0, *original)


def test_corners_connect():
    levels = np.eye(5, dtype=np.float32)
    assert len(regions_of(levels, 0.5, original_shape=(5, 5))) == 1


def test_a_map_below_the_threshold_has_no_regions():
    assert regions_of(np.ones((4, 4), np.float32), 1.5, original_shape=(4, 4)) == ()


def test_a_pixel_at_the_threshold_belongs_to_a_region():
    assert len(regions_of(np.ones((4, 4), np.float32), 1.0, original_shape=(4, 4))) == 1


def test_the_centroid_is_drawn_towards_the_higher_values():
    levels = np.zeros((8, 20), np.float32)
    levels[3, 4:14] = 1
    levels[3, 13] = 11
    (region,) = regions_of(levels, 0.5, original_shape=(8, 20))
    assert region.centroid == pytest.approx((3, (sum(range(4, 13)) + 11 * 13) / 20))


def test_a_threshold_of_zero_can_be_met_by_a_map_of_zeros():
    (region,) = regions_of(np.zeros((4, 6), np.float32), 0.0, original_shape=(4, 6))
    assert region.area == 24
    assert region.centroid == pytest.approx((1.5, 2.5))


@given(
    arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_each_pixel_has_the_number_of_the_working_pixel_it_lies_in(labels, shape):
    expected = functional.interpolate(torch.from_numpy(labels)[None, None].double(), shape, mode="nearest-exact")
    centres = [np.arange(0.5, large) * small / large for large, small in zip(shape, labels.shape, strict=True)]
    # On the border between two pixels rounding decides.
    settled = np.ix_(*(abs(at - np.round(at)) > 1e-4 for at in centres))
    np.testing.assert_array_equal(enlarge_labels(labels, shape)[settled], expected[0, 0].numpy()[settled])


def test_numbers_at_their_own_size_stay_as_they_are():
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(enlarge_labels(labels, (3, 4)), labels)
