from datetime import UTC, date, datetime, timedelta

import pytest

from flows.nightly import is_last_night


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
