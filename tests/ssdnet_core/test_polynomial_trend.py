import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.medians import median
from ssdnet_core.polynomial_trend import level_z, without_trend
from ssdnet_core.robust import robust_z
from tests.ssdnet_core.drawn_values import drawn, few_examples, oddly_punched, seeds


def plane(height, width, down, right, level=0.0):
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return (level + down * rows + right * columns)[None]


@few_examples
@given(st.integers(20, 150), st.integers(20, 150), st.floats(-50, 50), st.floats(-50, 50), st.floats(-50, 50), seeds)
def test_a_plane_is_subtracted_and_what_lies_on_it_stays(height, width, down, right, level, seed):
    detail, slope = drawn(1, height, width, seed=seed), plane(height, width, down, right, level)
    valid = oddly_punched(height, width, seed=seed)
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
    values, valid = drawn(1, 140, 200) + plane(140, 200, 2, 3), oddly_punched(140, 200, seed=1)
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
    detail, valid = drawn(1, height, width, seed=seed), oddly_punched(height, width, seed=seed)
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
    values, valid = 4 * drawn(2, 96, 96) + plane(96, 96, 30, -20), oddly_punched(96, 96, seed=1)
    expected = robust_z(values - plane(96, 96, 30, -20), valid)
    assert float((level_z(values, valid) - expected).abs().max()) < 0.25


@pytest.mark.parametrize("statistic", [without_trend, level_z])
def test_of_a_constant_nothing_is_left(statistic):
    assert float(statistic(torch.full((2, 40, 40), 7.0), torch.ones(1, 40, 40)).abs().max()) < 1e-4
