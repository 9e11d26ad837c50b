from datetime import date, timedelta

import pytest

from flows.backfill_days import Days, days_between
from flows.backfill_plan import BackfillError

DAYS = [date(2026, 11, 1) + timedelta(days=offset) for offset in range(5)]


def test_both_days_are_included():
    assert days_between(DAYS[0], DAYS[2]) == tuple(DAYS[:3])
    assert days_between(DAYS[0], DAYS[0]) == (DAYS[0],)


def test_days_in_the_wrong_order_are_refused_before_any_server_is_asked():
    with pytest.raises(BackfillError, match=r"2026-11-02 is after the end 2026-11-01"):
        Days(DAYS[1], DAYS[0])


def test_days_without_photographs_are_refused():
    with pytest.raises(BackfillError, match="before any digital photograph: set it to 1970-01-01"):
        days_between(date.min, DAYS[0])


def test_the_last_nights_are_counted_back_from_each_lines_own_last_one():
    assert Days(last=3).until(DAYS[4]) == tuple(DAYS[2:])
    assert Days(last=3).until(DAYS[3]) == tuple(DAYS[1:4])
    assert Days(last=1).until(DAYS[4]) == (DAYS[4],)


def test_a_start_and_an_end_are_the_same_for_all_lines():
    for newest in DAYS[2:]:
        assert Days(DAYS[0], DAYS[2]).until(newest) == tuple(DAYS[:3])


def test_days_after_a_lines_last_night_are_told_from_those_until_it():
    asked = Days(DAYS[1], DAYS[3])
    assert (asked.until(DAYS[2]), asked.after(DAYS[2])) == ((DAYS[1], DAYS[2]), (DAYS[3],))
    assert (asked.until(DAYS[0]), asked.after(DAYS[0])) == ((), tuple(DAYS[1:4]))
    assert (asked.until(DAYS[4]), asked.after(DAYS[4])) == (tuple(DAYS[1:4]), ())
    assert Days(last=3).after(DAYS[4]) == ()


@pytest.mark.parametrize("given", [{}, {"start": DAYS[0]}, {"end": DAYS[0]}, {"start": DAYS[0], "last": 2}])
def test_one_of_the_two_forms_is_needed_and_not_both(given):
    with pytest.raises(BackfillError, match=r"start and end \(--start and --end\), or else last, .* \(--last\)$"):
        Days(**given)


@pytest.mark.parametrize("last", [0, 10**9])
def test_a_number_of_nights_that_there_never_were_is_refused(last):
    with pytest.raises(BackfillError, match=f"the last {last} nights: set a number from 1 to"):
        Days(last=last).until(DAYS[4])
