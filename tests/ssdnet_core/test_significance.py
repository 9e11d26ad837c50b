import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core import Config, InvalidConfigError
from ssdnet_core.restlessness import BLOCK, LEAST_RESTLESS, LOW_QUANTILE, MOST_RESTLESS, USUAL_PEAK
from ssdnet_core.significance import (
    LOG_NFA_AT_ZERO,
    LOG_NFA_SLOPE,
    MOST_SIGNIFICANT,
    REFERENCE_AREA,
    alarm_level,
    significance,
)

areas = st.integers(32 * 32, 8192 * 8192)
levels = st.floats(0, 60)
false_alarms = st.floats(1e-30, 10)
restless = st.floats(LEAST_RESTLESS, MOST_RESTLESS)
MOST_FALSE_ALARMS = 100.0


@given(false_alarms, areas, restless)
def test_the_alarm_level_is_the_inverse_of_the_significance(expected, area, restless):
    level = alarm_level(expected, area=area, restless=restless)
    assert significance(level, area=area, restless=restless) == pytest.approx(-math.log10(expected), abs=1e-9)


@given(levels, areas, restless)
def test_the_significance_is_the_inverse_of_the_alarm_level(level, area, restless):
    score = significance(level, area=area, restless=restless)
    if score < MOST_SIGNIFICANT:
        asked = alarm_level(10.0**-score, area=area, restless=restless)
        assert asked == pytest.approx(level, abs=1e-9)


@given(levels, areas, restless, restless)
def test_the_same_level_means_less_on_a_more_restless_surface(level, area, one, other):
    calm, wild = sorted((one, other))
    assert significance(level, area=area, restless=calm) >= significance(level, area=area, restless=wild)


@given(levels, st.floats(1e-3, 10), areas)
def test_a_higher_level_is_more_significant_up_to_the_limit(level, more, area):
    lower, higher = significance(level, area=area), significance(level + more, area=area)
    assert higher > lower or lower == MOST_SIGNIFICANT
    assert higher <= MOST_SIGNIFICANT


@given(levels, areas, areas)
def test_the_same_level_among_more_pixels_means_less(level, area, other):
    smaller, larger = sorted((area, other))
    assert significance(level, area=smaller) >= significance(level, area=larger)
    assert alarm_level(0.1, area=smaller) <= alarm_level(0.1, area=larger)


@given(st.floats(5, 20), st.integers(REFERENCE_AREA, 8192 * 8192))
def test_twice_the_pixels_raise_twice_the_false_alarms(level, area):
    once, twice = (10 ** -significance(level, area=n) for n in (area, 2 * area))
    assert twice == pytest.approx(2 * once)


@given(false_alarms, st.integers(1, REFERENCE_AREA))
def test_a_small_image_is_not_given_a_lower_level(expected, area):
    assert alarm_level(expected, area=area) == alarm_level(expected, area=REFERENCE_AREA)


@given(false_alarms, false_alarms, areas)
def test_fewer_false_alarms_ask_for_a_higher_level(expected, other, area):
    fewer, more = sorted((expected, other))
    assert alarm_level(fewer, area=area) >= alarm_level(more, area=area)


@given(st.floats(1e-30, MOST_FALSE_ALARMS), st.integers(1, 8192 * 8192), restless)
def test_a_map_of_zeros_never_raises_an_alarm_however_many_may_be_asked_for(expected, area, restless):
    assert alarm_level(expected, area=area, restless=restless) > 1.2


def test_the_most_false_alarms_that_may_be_asked_for_are_what_the_settings_allow():
    Config().updated({"verdict.expected_false_alarms": MOST_FALSE_ALARMS})
    with pytest.raises(InvalidConfigError):
        Config().updated({"verdict.expected_false_alarms": 1.01 * MOST_FALSE_ALARMS})


def test_the_law_is_the_one_that_was_calibrated():
    # Measured on photographs (bench/calibration.py): whoever changes what the map's levels are must measure it again.
    assert (LOG_NFA_AT_ZERO, LOG_NFA_SLOPE) == (6.75, 1.27)
    assert (BLOCK, LOW_QUANTILE, USUAL_PEAK[BLOCK]) == (64, 0.4, 3.92)
    assert (LEAST_RESTLESS, MOST_RESTLESS) == (0.85, 1.6)
    assert alarm_level(0.1, area=256 * 256) == pytest.approx(7.128, abs=1e-3)
    assert alarm_level(0.1, area=512 * 512, restless=1.5) == pytest.approx(12.329, abs=1e-3)


@given(st.floats(0, 3e38), areas)
def test_any_level_has_a_finite_significance(level, area):
    assert math.isfinite(significance(level, area=area))


def test_the_significance_ends_at_its_limit():
    assert significance(1e6, area=256 * 256) == significance(3e38, area=1) == MOST_SIGNIFICANT
