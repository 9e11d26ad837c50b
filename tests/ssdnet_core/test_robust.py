import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ssdnet_core.border_rings import without_ring_excess
from ssdnet_core.polynomial_trend import level_z, without_trend
from ssdnet_core.robust import MAD_TO_SIGMA, over_median, robust_z
from tests.ssdnet_core.drawn_values import drawn, few_examples, oddly_punched, seeds, sides


def counted(values, valid):
    return values.numpy()[:, valid[0].numpy() > 0]


@few_examples
@given(st.integers(1, 4), sides, sides, seeds)
def test_robust_z_is_scipys_median_and_median_absolute_deviation(channels, height, width, seed):
    values, valid = 5 * drawn(channels, height, width, seed=seed) + 3, oddly_punched(height, width, seed=seed)
    pixels = counted(values, valid)
    centre = np.median(pixels, axis=1)[:, None, None]
    sigma = stats.median_abs_deviation(pixels, axis=1, scale="normal")[:, None, None]
    expected = (values.numpy() - centre) / np.maximum(sigma, 1e-6)
    np.testing.assert_allclose(robust_z(values, valid).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_robust_z_of_normal_noise_is_standard_normal():
    z = robust_z(4 * drawn(1, 200, 200) - 7, torch.ones(1, 200, 200))
    assert float(z.std()) == pytest.approx(1, abs=0.02)
    assert float(z.mean()) == pytest.approx(0, abs=0.02)
    assert pytest.approx(stats.median_abs_deviation(stats.norm.ppf(np.linspace(0.001, 0.999, 999))), rel=0.01) == (
        1 / MAD_TO_SIGMA
    )


@few_examples
@given(sides, sides, seeds, st.floats(0.01, 100), st.floats(-100, 100))
def test_robust_z_does_not_depend_on_units(height, width, seed, factor, offset):
    values, valid = drawn(2, height + 5, width + 5, seed=seed), torch.ones(1, height + 5, width + 5)
    plain, changed = robust_z(values, valid), robust_z(factor * (values + offset), valid)
    np.testing.assert_allclose(plain.numpy(), changed.numpy(), rtol=5e-3, atol=5e-3)


def test_a_minority_of_wild_pixels_does_not_move_the_others():
    values, valid = drawn(1, 60, 60), torch.ones(1, 60, 60)
    wild = values.clone()
    wild[:, :10, :20] = 1e6
    plain, disturbed = robust_z(values, valid), robust_z(wild, valid)
    assert float((plain - disturbed)[:, 10:].abs().max()) < 0.5
    assert float(disturbed[:, :10, :20].min()) > 1e4


@few_examples
@given(sides, sides, seeds)
def test_pixels_that_do_not_count_have_no_influence_on_those_that_do(height, width, seed):
    valid = oddly_punched(height, width, seed=seed)
    values = drawn(3, height, width, seed=seed).abs()
    changed = torch.where(valid > 0, values, 1e6)
    kept = valid[0] > 0
    for statistic in (robust_z, level_z, over_median, without_trend, without_ring_excess):
        one, other = statistic(values, valid), statistic(changed, valid)
        assert torch.equal(one[:, kept], other[:, kept]), statistic.__name__


@few_examples
@given(st.integers(1, 3), sides, sides, seeds, st.floats(1e-3, 1e3))
def test_over_median_has_median_one_in_any_units(channels, height, width, seed, factor):
    values, valid = drawn(channels, height, width, seed=seed).exp(), oddly_punched(height, width, seed=seed)
    relative = over_median(factor * values, valid)
    np.testing.assert_allclose(np.median(counted(relative, valid), axis=1), 1.0, rtol=1e-5)
    expected = values.numpy() / np.median(counted(values, valid), axis=1)[:, None, None]
    np.testing.assert_allclose(relative.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("statistic", [robust_z, over_median])
def test_values_that_are_all_the_same_give_finite_numbers(statistic):
    values = torch.full((2, 12, 12), 3.0)
    values[1] = 0.0
    assert bool(statistic(values, torch.ones(1, 12, 12)).isfinite().all())


STATISTICS = {
    "over_median": lambda values, valid: over_median(values.abs(), valid),
    "robust_z": robust_z,
    "level_z": level_z,
    "without_trend": without_trend,
    "without_trend of second degree": lambda values, valid: without_trend(values, valid, degree=2),
    "without_trend with a radial term": lambda values, valid: without_trend(values, valid, degree=2, radial=8),
    "without_trend of fourth degree": lambda values, valid: without_trend(values, valid, degree=4),
    "without_ring_excess": without_ring_excess,
    "without_ring_excess, coarse": lambda values, valid: without_ring_excess(values, valid, grid=4),
}


@pytest.mark.parametrize("name", STATISTICS)
@few_examples
@given(
    st.sampled_from([(1,), (3,), (2, 2)]),
    st.integers(1, 3),
    st.sampled_from([(3, 20), (31, 26), (130, 140)]),
    seeds,
    st.booleans(),
)
def test_the_statistics_of_images_together_are_those_of_each_alone(name, group, channels, size, seed, everything):
    values = drawn(*group, channels, *size, seed=seed)
    values = values.flatten(0, -4) + torch.linspace(-3, 3, size[0])[:, None] - torch.linspace(-2, 2, size[1])
    # Of other light, units and borders each.
    values = values * torch.arange(1.0, 1 + len(values))[:, None, None, None]
    values[-1, :, :2] += 20
    valid = torch.ones(1, *size) if everything else oddly_punched(*size, seed=seed)
    together = STATISTICS[name](values.unflatten(0, group), valid)
    alone = torch.stack([STATISTICS[name](image, valid) for image in values])
    # Of values up to 30 or so, whose sums are rounded in another order.
    torch.testing.assert_close(together, alone.unflatten(0, group), rtol=1e-4, atol=1e-3)
