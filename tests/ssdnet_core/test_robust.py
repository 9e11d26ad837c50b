import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ssdnet_core.medians import median
from ssdnet_core.robust import (
    MAD_TO_SIGMA,
    level_z,
    over_median,
    robust_z,
    without_ring_excess,
    without_trend,
)
from tests.ssdnet_core.drawn_values import drawn, few_examples, seeds, sides


def punched(height, width, *, seed):
    """Return flags of an odd number of pixels, of which the median is one of them."""
    weight = (torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) > 0.3).float()
    weight[0, 0, 0] = 1
    if int(weight.sum()) % 2 == 0:
        weight.view(-1)[torch.nonzero(weight.view(-1))[-1]] = 0
    return weight


def counted(values, valid):
    return values.numpy()[:, valid[0].numpy() > 0]


@few_examples
@given(st.integers(1, 4), sides, sides, seeds)
def test_robust_z_is_scipys_median_and_median_absolute_deviation(channels, height, width, seed):
    values, valid = 5 * drawn(channels, height, width, seed=seed) + 3, punched(height, width, seed=seed)
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
    valid = punched(height, width, seed=seed)
    values = drawn(3, height, width, seed=seed).abs()
    changed = torch.where(valid > 0, values, 1e6)
    kept = valid[0] > 0
    for statistic in (robust_z, level_z, over_median, without_trend, without_ring_excess):
        one, other = statistic(values, valid), statistic(changed, valid)
        assert torch.equal(one[:, kept], other[:, kept]), statistic.__name__


@few_examples
@given(st.integers(1, 3), sides, sides, seeds, st.floats(1e-3, 1e3))
def test_over_median_has_median_one_in_any_units(channels, height, width, seed, factor):
    values, valid = drawn(channels, height, width, seed=seed).exp(), punched(height, width, seed=seed)
    relative = over_median(factor * values, valid)
    np.testing.assert_allclose(np.median(counted(relative, valid), axis=1), 1.0, rtol=1e-5)
    expected = values.numpy() / np.median(counted(values, valid), axis=1)[:, None, None]
    np.testing.assert_allclose(relative.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("statistic", [robust_z, over_median])
def test_values_that_are_all_the_same_give_finite_numbers(statistic):
    values = torch.full((2, 12, 12), 3.0)
    values[1] = 0.0
    assert bool(statistic(values, torch.ones(1, 12, 12)).isfinite().all())


def border_depth(height, width):
    rows, columns = np.indices((height, width))
    return np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))


@few_examples
@given(st.integers(26, 45), st.integers(26, 45), st.sampled_from([(1, 2, 12), (2, 1, 6), (4, 1, 3)]), seeds)
def test_rings_are_lowered_by_what_their_median_exceeds_the_images(height, width, rings, seed):
    grid, ring_width, reach = rings
    depth = border_depth(height, width)
    values = drawn(2, height, width, seed=seed) + torch.from_numpy(np.maximum(0, 6 - depth)).float()
    found = without_ring_excess(values, torch.ones(1, height, width), grid=grid).numpy()
    middle = {"q": 0.5, "method": "lower"}
    for channel, before in enumerate(values.numpy()):
        expected = before.copy()
        for start in range(0, reach, ring_width):
            ring = (depth >= start) & (depth < start + ring_width)
            expected[ring] -= max(0.0, np.quantile(before[ring], **middle) - np.quantile(before, **middle))
        np.testing.assert_allclose(found[channel], expected, atol=1e-5)


def test_the_excess_of_rings_is_removed_and_a_defect_at_the_border_stays():
    rows = torch.from_numpy(np.maximum(0, 8 - border_depth(64, 64))).float()
    values = rows + 0.1 * drawn(1, 64, 64)
    values[:, :6, 20:26] += 10
    levelled = without_ring_excess(values, torch.ones(1, 64, 64))[0]
    defect = torch.zeros(64, 64, dtype=torch.bool)
    defect[:6, 20:26] = True
    assert float(levelled[defect].min()) > 8
    assert float(levelled[~defect].max()) < 1.5


def test_a_quiet_border_is_not_raised():
    values = drawn(1, 48, 48)
    values[:, :2] -= 5
    lowered = without_ring_excess(values, torch.ones(1, 48, 48))
    assert bool((lowered <= values).all())


def test_what_lies_further_inside_is_left_alone():
    depth = border_depth(64, 64)
    for ring in range(12, 32, 2):
        values = torch.from_numpy(np.where(depth // 2 == ring // 2, 5.0, 0.0)).float()[None]
        assert torch.equal(without_ring_excess(values, torch.ones(1, 64, 64)), values)


def plane(height, width, down, right, level=0.0):
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return (level + down * rows + right * columns)[None]


@few_examples
@given(st.integers(20, 150), st.integers(20, 150), st.floats(-50, 50), st.floats(-50, 50), st.floats(-50, 50), seeds)
def test_a_plane_is_subtracted_and_what_lies_on_it_stays(height, width, down, right, level, seed):
    detail, slope = drawn(1, height, width, seed=seed), plane(height, width, down, right, level)
    valid = punched(height, width, seed=seed)
    of_detail, of_both = (without_trend(values, valid) for values in (detail, detail + slope))
    # Up to one part in a hundred: the slope is held back a little, for what few pixels count.
    assert float((of_detail - of_both).abs().max()) < 0.1 + 0.01 * (abs(down) + abs(right))
    centred = detail - median(detail, valid)
    assert float((of_detail - centred).abs().max()) < 0.6


def test_an_anomalous_minority_does_not_tilt_the_plane():
    values = drawn(1, 128, 160) + plane(128, 160, 5, -3)
    bad = values.clone()
    bad[:, 90:, 110:] += 20
    valid = torch.ones(1, 128, 160)
    plain, found = without_trend(values, valid), without_trend(bad, valid)
    rest = torch.ones(128, 160, dtype=torch.bool)
    rest[90:, 110:] = False
    assert float((plain - found)[0][rest].abs().max()) < 0.4
    assert float((found - plain)[0][~rest].min()) > 19.5


def test_the_plane_of_a_large_image_does_not_see_pixels_that_do_not_count():
    # Large enough for the averages over squares, of which some count in part.
    values, valid = drawn(1, 140, 200) + plane(140, 200, 2, 3), punched(140, 200, seed=1)
    changed = torch.where(valid > 0, values, 1e4)
    one, other = (without_trend(each, valid)[0][valid[0] > 0] for each in (values, changed))
    assert torch.equal(one, other)


def test_each_channel_has_its_own_plane():
    valid = torch.ones(1, 64, 64)
    values = torch.cat([plane(64, 64, 5, 0), plane(64, 64, 0, -7), plane(64, 64, 0, 0, 3)])
    assert float(without_trend(values, valid).abs().max()) < 0.1
    for number, channel in enumerate(values):
        alone = without_trend(channel[None], valid)
        np.testing.assert_allclose(alone[0].numpy(), without_trend(values, valid)[number].numpy(), atol=1e-4)


def paraboloid(height, width, *coefficients, power=1):
    down, across, twist = coefficients
    rows, columns = torch.linspace(-1, 1, height)[:, None] ** power, torch.linspace(-1, 1, width) ** power
    return (down * rows**2 + across * columns**2 + twist * rows * columns)[None]


@few_examples
@given(
    st.sampled_from([2, 4]),
    st.integers(40, 150),
    st.integers(40, 150),
    st.tuples(*[st.floats(-50, 50)] * 3),
    st.floats(-50, 50),
    seeds,
)
def test_a_trend_of_higher_degree_is_subtracted_and_what_lies_on_it_stays(degree, height, width, curves, slope, seed):
    detail, valid = drawn(1, height, width, seed=seed), punched(height, width, seed=seed)
    trend = paraboloid(height, width, *curves, power=degree // 2) + plane(height, width, slope, -slope, 3.0)
    of_detail, of_both = (without_trend(values, valid, degree=degree) for values in (detail, detail + trend))
    assert float((of_detail - of_both).abs().max()) < 0.1 + 0.03 * (sum(map(abs, curves)) + 2 * abs(slope))


@few_examples
@given(
    st.sampled_from([0, 1, 2]),
    st.sampled_from([4, 6, 8]),
    st.integers(40, 90),
    st.integers(40, 90),
    st.floats(-3, 3),
    st.floats(-2, 2),
    seeds,
)
def test_a_trend_with_a_radial_term_is_that_of_least_squares_over_its_terms(
    degree, radial, height, width, steep, slope, seed
):
    down, right = ((2 * np.indices((height, width))[axis] + 1) / side - 1 for axis, side in enumerate((height, width)))
    distance = (down**2 + right**2) ** (radial // 2)
    # So little noise that none of it is an outlier of note.
    noise = np.random.default_rng(seed).uniform(-1, 1, (height, width))
    values = steep * distance + slope * down * right * (degree == 2) + noise
    terms = [down**i * right**j for i in range(degree + 1) for j in range(degree + 1 - i)] + [distance]
    table = np.stack([term.ravel() for term in terms], axis=1)
    expected = values.ravel() - table @ np.linalg.lstsq(table, values.ravel(), rcond=None)[0]
    found = without_trend(
        torch.from_numpy(values).float()[None], torch.ones(1, height, width), degree=degree, radial=radial
    )
    # The weights differ from 1, by the square of the distance over four standard deviations.
    assert np.abs(found[0].numpy().ravel() - expected).max() < 0.5
    assert float(found.std()) < 1.1 * expected.std()


def test_an_anomalous_minority_does_not_bend_the_trend():
    values = drawn(1, 128, 160) + paraboloid(128, 160, 4, 3, -2)
    bad = values.clone()
    bad[:, 90:, 110:] += 20
    valid = torch.ones(1, 128, 160)
    plain, found = (without_trend(each, valid, degree=2) for each in (values, bad))
    rest = torch.ones(128, 160, dtype=torch.bool)
    rest[90:, 110:] = False
    assert float((plain - found)[0][rest].abs().max()) < 0.6
    assert float((found - plain)[0][~rest].min()) > 19


def test_level_z_is_robust_z_of_what_lies_on_the_plane():
    values, valid = 4 * drawn(2, 96, 96) + plane(96, 96, 30, -20), punched(96, 96, seed=1)
    expected = robust_z(values - plane(96, 96, 30, -20), valid)
    assert float((level_z(values, valid) - expected).abs().max()) < 0.25


@pytest.mark.parametrize("statistic", [without_trend, level_z])
def test_of_a_constant_nothing_is_left(statistic):
    assert float(statistic(torch.full((2, 40, 40), 7.0), torch.ones(1, 40, 40)).abs().max()) < 1e-4


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
    values = values.flatten(0, -4) + plane(*size, 3, -2)
    # Of other light, units and borders each.
    values = values * torch.arange(1.0, 1 + len(values))[:, None, None, None]
    values[-1, :, :2] += 20
    valid = torch.ones(1, *size) if everything else punched(*size, seed=seed)
    together = STATISTICS[name](values.unflatten(0, group), valid)
    alone = torch.stack([STATISTICS[name](image, valid) for image in values])
    # Of values up to 30 or so, whose sums are rounded in another order.
    torch.testing.assert_close(together, alone.unflatten(0, group), rtol=1e-4, atol=1e-3)
