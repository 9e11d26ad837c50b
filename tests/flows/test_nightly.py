from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.nightly import day_before, is_last_night
from ssdnet_core.errors import InvalidConfigError


@pytest.mark.parametrize(
    ("start", "night"),
    [
        (datetime(2026, 11, 23, 2, 0, tzinfo=UTC), date(2026, 11, 22)),  # 03:00 in Madrid
        (datetime(2026, 11, 22, 23, 30, tzinfo=UTC), date(2026, 11, 22)),  # 00:30 in Madrid, on the 23rd
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), date(2026, 3, 28)),  # 03:00, an hour after the clocks went on
        (datetime(2026, 10, 25, 2, 0, tzinfo=UTC), date(2026, 10, 24)),  # 03:00, after the clocks went back
    ],
)
def test_the_night_is_the_day_before_the_start_in_the_sites_own_zone(start, night):
    assert day_before(start, "Europe/Madrid") == night


@given(
    st.dates(date(2020, 1, 1), date(2035, 1, 1)), st.sampled_from(["Europe/Madrid", "America/New_York", "Asia/Tokyo"])
)
def test_a_start_at_three_in_the_morning_always_gives_the_day_before(day, zone):
    start = datetime(day.year, day.month, day.day, 3, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert day_before(start, zone) == day - timedelta(days=1)


@pytest.mark.parametrize(
    ("day", "late", "last"),
    [
        (22, timedelta(0), True),
        (22, timedelta(hours=8), True),  # it waited for a worker
        (21, timedelta(0), False),
        (23, timedelta(0), False),  # a custom run of today, whose night has not been yet
        (22, timedelta(hours=30), False),  # the next run has been due for six hours
        (22, timedelta(days=3), False),  # three later runs wait for a worker, too
    ],
)
def test_only_the_night_before_makes_a_line_up_to_date_and_only_until_the_next_is_due(day, late, last):
    due = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    assert is_last_night(date(2026, 11, day), due=due, now=due + late, timezone="Europe/Madrid") is last


def test_a_night_that_is_due_before_midnight_may_start_after_it():
    due = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
    assert is_last_night(date(2026, 11, 22), due=due, now=due + timedelta(hours=1), timezone="Europe/Madrid")


def test_an_unknown_time_zone_is_named():
    with pytest.raises(InvalidConfigError, match="Europe/Atlantis"):
        day_before(datetime.now(UTC), "Europe/Atlantis")
