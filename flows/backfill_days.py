"""The days of a backfill: from one to another, or the last so many nights."""

from dataclasses import dataclass
from datetime import date, timedelta

from flows.backfill_plan import BackfillError

FIRST_DAY = date(1970, 1, 1)
"""An earlier day is a mistyped year; and runs are searched from the day before on, which `date.min` does not have."""


@dataclass(frozen=True)
class Days:
    """What was asked for: a start and an end, or a number of nights.

    Attributes
    ----------
    start, end
        The first and the last day, both included.
    last
        The number of nights, counted back from the last one of each line.

    Raises
    ------
    BackfillError
        If anything but start and end, or last alone, is given, or the end is before the start.
    """

    start: date | None = None
    end: date | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("start", "end", "last") if getattr(self, name) is not None]
        if given not in (["start", "end"], ["last"]):
            only = f"given {' and '.join(given)}" if given else "given no days"
            raise BackfillError(
                f"a backfill was {only}: give start and end (--start and --end), or else last, a number of nights "
                "(--last)"
            )
        if self.start is not None and self.end is not None and self.start > self.end:
            raise BackfillError(f"the start {self.start} is after the end {self.end}: swap them")

    def until(self, newest: date) -> tuple[date, ...]:
        """Return the days of a line whose last night is ``newest``, without those that are :meth:`after` it.

        Raises
        ------
        BackfillError
            If there can be no days, or one is before `FIRST_DAY`.
        """
        if self.start is not None and self.end is not None:
            return days_between(self.start, min(self.end, newest))
        nights = self.last or 0
        if not 1 <= nights <= (newest - FIRST_DAY).days:
            raise BackfillError(f"the last {nights} nights: set a number from 1 to {(newest - FIRST_DAY).days}")
        return days_between(newest - timedelta(days=nights - 1), newest)

    def after(self, newest: date) -> tuple[date, ...]:
        """Return the days asked for that are not over where the last night is ``newest``."""
        if self.start is None or self.end is None or self.end <= newest:
            return ()
        return days_between(max(self.start, newest + timedelta(days=1)), self.end)


def days_between(start: date, end: date) -> tuple[date, ...]:
    """Return the days from start to end, both included; none if the end is before the start.

    Raises
    ------
    BackfillError
        If the start is before `FIRST_DAY`.
    """
    if start < FIRST_DAY:
        raise BackfillError(f"the start {start} is before any digital photograph: set it to {FIRST_DAY} or later")
    return tuple(start + timedelta(days=offset) for offset in range((end - start).days + 1))
