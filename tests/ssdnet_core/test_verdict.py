"""The verdict by itself, of evidence that was made: which peak alarms, and where the regions begin."""

import numpy as np
import pytest
import torch

from ssdnet_core import Config
from ssdnet_core.evidence import Evidence, Findings
from ssdnet_core.localization import judged
from ssdnet_core.preparation import Preparation
from ssdnet_core.significance import alarm_level, significance
from ssdnet_core.small_region import Box

SIDE = 64
ALARM = alarm_level(0.1, area=SIDE**2)


def evidence(*, peak, highest, restless=1.0, further=None):
    """Evidence of a square of 6 x 6 pixels of the sharpened map, and of its peak before it was sharpened.

    ``further`` are the peaks of another square, in both maps.
    """
    first_levels, levels = torch.full((2, SIDE, SIDE), 1.0)
    first_levels[13, 23], levels[10:16, 20:26] = peak, highest
    if further:
        first_levels[43, 43], levels[40:46, 40:46] = further
    findings = Findings(
        scores=levels,
        levels=levels,
        first_levels=first_levels,
        background=torch.zeros(SIDE, SIDE, 1),
        restless=torch.tensor(restless),
        unlikeness=torch.tensor(0.0),
    )
    return Evidence(
        findings,
        area=float(SIDE**2),
        preparation=Preparation((SIDE, SIDE), Box.whole((SIDE, SIDE)), seconds=2.0),
        seconds=3.0,
    )


@pytest.mark.parametrize("peak", [ALARM + 1e-3, ALARM + 2])
def test_an_alarm_has_a_region_also_where_sharpening_has_lowered_its_peak(peak):
    highest = ALARM - 2
    result = judged(evidence(peak=peak, highest=highest), Config())
    assert result.defective
    assert result.regions_from == pytest.approx(highest)
    [region] = result.regions
    assert (region.top, region.left, region.bottom, region.right) == (10, 20, 16, 26)
    assert result.score == pytest.approx(significance(peak, area=SIDE**2), abs=1e-5)


def test_a_sharpened_map_above_the_level_raises_no_alarm_by_itself():
    result = judged(evidence(peak=ALARM - 0.5, highest=ALARM + 3), Config())
    assert not result.defective
    assert result.regions == ()
    assert result.regions_from == pytest.approx(ALARM)
    assert result.score < 1


def test_regions_begin_at_the_alarms_level_where_the_sharpened_map_reaches_it():
    result = judged(evidence(peak=ALARM + 1, highest=ALARM + 3), Config())
    assert result.regions_from == pytest.approx(ALARM)
    assert [region.area for region in result.regions] == [36]


@pytest.mark.parametrize(("before", "regions"), [(ALARM - 0.01, 1), (ALARM + 0.01, 2)])
def test_a_further_region_was_above_the_level_before_sharpening_as_well(before, regions):
    found = evidence(peak=ALARM + 1, highest=ALARM + 3, further=(before, ALARM + 2))
    assert len(judged(found, Config()).regions) == regions


def test_the_highest_region_is_reported_though_only_sharpening_has_raised_it():
    found = evidence(peak=ALARM + 1, highest=ALARM + 2, further=(ALARM - 1, ALARM + 3))
    assert [region.top for region in judged(found, Config()).regions] == [40, 10]


def test_a_restless_surface_alarms_from_a_higher_level_on():
    for peak, alarmed in ((1.5 * ALARM - 0.01, False), (1.5 * ALARM + 0.01, True)):
        result = judged(evidence(peak=peak, highest=20.0, restless=1.5), Config())
        assert result.defective == alarmed
        assert result.regions_from == pytest.approx(1.5 * ALARM)


def test_what_is_judged_is_given_on_as_it_was_found():
    result = judged(evidence(peak=20.0, highest=20.0), Config())
    assert np.array_equal(result.working_map, evidence(peak=20.0, highest=20.0).findings.scores.numpy())
    assert result.warnings == ()


def test_without_an_alarm_regions_would_begin_at_its_level():
    assert judged(evidence(peak=ALARM - 1, highest=ALARM - 2), Config()).regions_from == pytest.approx(ALARM)


def test_the_seconds_are_those_of_preparation_fit_and_verdict_together():
    assert 5.0 < judged(evidence(peak=20.0, highest=20.0), Config()).seconds < 6.0
