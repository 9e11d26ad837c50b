import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.departure import LIMIT, SCORE_RESOLUTION, departure, qn_scale, quantile_departure, rate_departure

VALUES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=28)


@given(VALUES)
def test_qn_is_the_order_statistic_of_all_distances(values):
    distances = sorted(abs(a - b) for a, b in itertools.combinations(values, 2))
    half = len(values) // 2 + 1
    expected = 2.2219 * distances[half * (half - 1) // 2 - 1]
    assert qn_scale(np.array(values)) == pytest.approx(expected)


def test_qn_of_normal_values_is_their_standard_deviation():
    values = np.random.default_rng(0).normal(scale=3.0, size=2000)
    assert qn_scale(values) == pytest.approx(3.0, rel=0.05)


@given(VALUES, st.floats(-1e3, 1e3), st.floats(0.1, 10))
def test_a_value_is_flagged_exactly_beyond_the_bounds(trailing, value, least_scale):
    result = departure(value, trailing, least_scale=least_scale)
    if abs(abs(result.deviations) - LIMIT) > 1e-6:
        assert result.flagged == (not result.lowest <= value <= result.highest)


@pytest.mark.parametrize("value", [3.1, -3.1])
def test_three_standard_deviations_are_the_limit(value):
    assert departure(value, [0.0] * 7, least_scale=1.0).flagged
    assert not departure(value / 3.1 * 2.9, [0.0] * 7, least_scale=1.0).flagged


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(50, 500)), min_size=7, max_size=28))
def test_the_bounds_of_a_rate_are_rates_and_in_order(trailing):
    result = rate_departure((5, 200), trailing)
    assert 0 <= result.lowest <= result.middle <= result.highest <= 1


@given(
    st.integers(1, 1000).flatmap(lambda inspected: st.tuples(st.integers(0, inspected), st.just(inspected))),
    st.lists(st.tuples(st.integers(0, 20), st.integers(20, 500)), min_size=7, max_size=28),
)
def test_a_rate_is_flagged_exactly_beyond_its_bounds(night, trailing):
    result, rate = rate_departure(night, trailing), night[0] / night[1]
    if abs(abs(result.deviations) - LIMIT) > 1e-6:
        assert result.flagged == (not result.lowest - 1e-12 <= rate <= result.highest + 1e-12)


def test_the_usual_rate_of_nights_without_a_defect_is_none():
    assert rate_departure((0, 20), [(0, 20)] * 14).middle == 0


@pytest.mark.parametrize("outliers", [0, 3])
def test_a_tripled_defect_rate_is_flagged_even_after_some_bad_nights(outliers):
    trailing = [(12 + number % 5, 420) for number in range(14 - outliers)] + [(150, 420)] * outliers
    assert rate_departure((14, 420), trailing).flagged is False
    assert rate_departure((60, 420), trailing).flagged is True


def test_after_a_month_of_a_new_rate_it_is_the_normal_one():
    assert not rate_departure((60, 420), [(58 + number % 5, 420) for number in range(28)]).flagged


def test_a_night_of_few_images_is_granted_what_chance_does_to_it():
    trailing = [(12 + number % 5, 420) for number in range(14)]
    assert not rate_departure((3, 20), trailing).flagged
    assert rate_departure((63, 420), trailing).flagged, "the same rate, of many images"


@pytest.mark.parametrize(("nights", "most"), [(7, 0.03), (14, 0.015), (28, 0.015)])
def test_false_flags_of_the_scores_are_as_rare_as_the_documentation_says(nights, most):
    rng = np.random.default_rng(nights)

    def quartiles(images):
        level, spread = 0.1 * rng.normal(), np.exp(0.1 * rng.normal())
        return np.quantile(rng.gumbel(level, 0.4 * spread, images), [0.25, 0.5, 0.75])

    def flagged(images):
        trailing = np.array([quartiles(images) for _ in range(nights)])
        width = np.median(trailing[:, 2] - trailing[:, 0])
        night = quartiles(images)
        return any(
            quantile_departure(night[i], list(trailing[:, i]), images=images, width=width).flagged for i in range(3)
        )

    assert np.mean([flagged(images) for images in (20, 400) for _ in range(400)]) < most


@pytest.mark.parametrize(("nights", "most"), [(7, 0.03), (14, 0.015), (28, 0.015)])
def test_false_flags_of_the_defect_rate_are_as_rare_as_the_documentation_says(nights, most):
    rng = np.random.default_rng(nights)

    def flagged(images):
        odds = np.log(0.03 / 0.97) + 0.3 * rng.normal(size=nights + 1)
        counts = [(int(count), images) for count in rng.binomial(images, 1 / (1 + np.exp(-odds)))]
        return rate_departure(counts[-1], counts[:-1]).flagged

    assert np.mean([flagged(images) for images in (20, 500, 2000) for _ in range(400)]) < most


def test_scores_that_all_but_repeat_are_flagged_only_beyond_their_resolution():
    for distance, flagged in ((2.9 * SCORE_RESOLUTION, False), (3.1 * SCORE_RESOLUTION, True)):
        assert quantile_departure(distance, [0.0] * 14, images=10**6, width=0.1).flagged == flagged


def test_what_chance_does_to_a_rate_is_granted_and_no_more():
    # Anscombe: the arcsine of a rate among n scatters by 1 / sqrt(n + 1/2).
    for images in (20, 500):
        one = rate_departure((0, images), [(images // 2, images)] * 14)
        turned = [2 * np.arcsin(np.sqrt((count + 3 / 8) / (images + 3 / 4))) for count in (0, images // 2)]
        assert one.deviations == pytest.approx((turned[0] - turned[1]) * np.sqrt(images + 0.5))


def test_a_few_nights_know_their_spread_less_well_than_many():
    values = [0.0, 1.0, 2.0, 3.0]
    few, many = (departure(9.0, values * times, least_scale=0.0) for times in (2, 7))
    assert few.highest - few.middle > many.highest - many.middle
