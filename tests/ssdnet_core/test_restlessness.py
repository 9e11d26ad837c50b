import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.restlessness import BLOCK, LEAST_RESTLESS, MOST_RESTLESS, USUAL_PEAK, restlessness

seeds = st.integers(0, 2**32 - 1)


def surface(peak=USUAL_PEAK[BLOCK], *, seed=0, size=(4 * BLOCK, 4 * BLOCK)):
    """A verdict map whose blocks have peaks around ``peak``, and the pixels that count."""
    rng = np.random.default_rng(seed)
    levels = torch.from_numpy(rng.uniform(0, 0.9 * peak, size)).float()
    for top in range(0, size[0], BLOCK):
        for left in range(0, size[1], BLOCK):
            block = levels[top : top + BLOCK, left : left + BLOCK]
            block[rng.integers(len(block)), rng.integers(block.shape[1])] = rng.uniform(0.95, 1.05) * peak
    return levels, torch.ones(1, *size)


def by_brute_force(levels, counted, *, block):
    """The same of maps whose sides are multiples of the block, in plain loops."""
    height, width = levels.shape
    tops, lefts = range(0, height, block), range(0, width, block)
    places = [np.s_[top : top + block, left : left + block] for top in tops for left in lefts]
    most = max(int(counted[0][place].sum()) for place in places)
    peaks = sorted(
        max(float(levels[place][counted[0][place] > 0].max()), 0.0)
        for place in places
        if counted[0][place].sum() >= most / 2
    )
    return np.clip(peaks[int(0.4 * (len(peaks) - 1))] / USUAL_PEAK[block], LEAST_RESTLESS, MOST_RESTLESS)


@given(st.sampled_from([(32, 8), (64, 16), (128, 32), (256, 64)]), st.floats(0, 0.9), seeds)
def test_restlessness_is_a_low_quantile_of_the_blocks_peaks_over_the_usual_one(size, missing, seed):
    side, block = size
    rng = np.random.default_rng(seed)
    levels = torch.from_numpy(rng.gamma(8, rng.uniform(0.2, 0.6), (side, side))).float()
    counted = torch.from_numpy(rng.random((1, side, side)) >= missing).float()
    expected = by_brute_force(levels, counted, block=block)
    assert float(restlessness(levels, counted)) == pytest.approx(expected, rel=1e-5)


@given(st.floats(0.5, 3), seeds)
def test_a_surface_whose_levels_are_higher_is_as_much_more_restless_within_bounds(times, seed):
    levels, counted = surface(seed=seed)
    expected = np.clip(times * float(restlessness(levels, counted)), LEAST_RESTLESS, MOST_RESTLESS)
    assert float(restlessness(times * levels, counted)) == pytest.approx(float(expected), rel=1e-5)


@given(st.integers(1, 300), st.integers(1, 300))
def test_images_of_any_size_have_a_restlessness_within_bounds(height, width):
    levels, counted = surface(size=(height, width))
    assert LEAST_RESTLESS <= restlessness(levels, counted) <= MOST_RESTLESS


@given(st.floats(0.9, 1.4), st.integers(0, 9), seeds)
def test_a_defect_in_fewer_than_six_blocks_in_ten_hardly_moves_a_surfaces_restlessness(times, blocks, seed):
    levels, counted = surface(times * USUAL_PEAK[BLOCK], seed=seed)
    spoilt = levels.clone()
    for place in np.random.default_rng(seed).choice(16, size=blocks, replace=False):
        spoilt[place // 4 * BLOCK + 20, place % 4 * BLOCK + 20] = 50.0
    # What is left is the same surface, cut at another quantile.
    assert restlessness(spoilt, counted) <= 1.05 / 0.95 * restlessness(levels, counted)


def test_a_defect_all_over_leaves_an_alarm_level_that_can_be_reached():
    levels, counted = surface()
    assert float(restlessness(levels + 50, counted)) == pytest.approx(MOST_RESTLESS)


def test_what_does_not_count_has_no_influence_on_restlessness():
    levels, counted = surface()
    counted[:, :100, :70] = 0.0
    changed = levels.clone()
    changed[:100, :70] = torch.nan
    assert restlessness(changed, counted) == restlessness(levels, counted)


def test_images_together_are_as_restless_as_each_alone():
    levels = torch.stack([surface(peak, seed=3)[0] for peak in (3.0, 4.5, 9.0)])
    _, counted = surface()
    for flags in (counted, counted * (torch.arange(4 * BLOCK) > 80)):
        alone = torch.stack([restlessness(each, flags) for each in levels])
        assert torch.equal(restlessness(levels, flags), alone)
