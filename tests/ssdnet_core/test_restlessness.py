import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.restlessness import CALM_SPREAD, MOST_RESTLESS, restlessness

seeds = st.integers(0, 2**32 - 1)


def surface(spread, *, seed=0, side=64):
    """A verdict map whose 10 % quantile lies ``spread`` below its median, and the pixels that count."""
    values = np.random.default_rng(seed).permutation(np.linspace(0, 1, side * side)).reshape(side, side)
    return torch.from_numpy(3 + 2.5 * spread * (values - 0.5)).float(), torch.ones(1, side, side)


def test_a_calm_surface_has_restlessness_one():
    assert float(restlessness(*surface(CALM_SPREAD))) == pytest.approx(1, abs=1e-3)


@given(st.floats(0, CALM_SPREAD), seeds)
def test_a_calmer_surface_is_given_no_lower_level(spread, seed):
    assert float(restlessness(*surface(spread, seed=seed))) == pytest.approx(1, abs=1e-3)


@given(st.floats(0, 5), seeds)
def test_restlessness_is_the_root_of_the_lower_halfs_spread_within_its_bounds(spread, seed):
    expected = np.clip(math.sqrt(spread / CALM_SPREAD), 1, MOST_RESTLESS)
    assert float(restlessness(*surface(spread, seed=seed))) == pytest.approx(float(expected), abs=1e-2)


@given(st.floats(0.3, 1.5), st.floats(0, 0.4), seeds)
def test_a_defect_on_less_than_half_of_the_surface_hardly_moves_its_restlessness(spread, share, seed):
    levels, counted = surface(spread, seed=seed)
    spoilt = levels.clone()
    spoilt[: int(share * len(levels))] = 50.0
    # What is left is the same surface, cut at other quantiles.
    assert restlessness(spoilt, counted) <= 1.31 * restlessness(levels, counted)


def test_what_does_not_count_has_no_influence_on_restlessness():
    levels, counted = surface(0.8)
    counted[:, :10] = 0.0
    changed = levels.clone()
    changed[:10] = torch.nan
    assert restlessness(changed, counted) == restlessness(levels, counted)


def test_images_together_are_as_restless_as_each_alone():
    levels = torch.stack([surface(spread, seed=3)[0] for spread in (0.3, 0.8, 4.0)])
    _, counted = surface(1.0)
    for flags in (counted, counted * (torch.arange(64) > 20)):
        alone = torch.stack([restlessness(each, flags) for each in levels])
        assert torch.equal(restlessness(levels, flags), alone)
