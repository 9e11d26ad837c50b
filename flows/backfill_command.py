"""The body of ``ssdnet backfill``: the flow with a progress bar, and tables of what came of it."""

import sys
from datetime import date
from typing import TYPE_CHECKING, Any

from flows.backfill_days import Days
from flows.embedded import set_up_environment
from flows.interruption import raise_when_interrupted
from flows.prefect_settings import check_prefect_settings

if TYPE_CHECKING:
    from flows.backfill import NightOutcome


def backfill_nights(
    start: date | None, end: date | None, *, last: int | None, at_most: int, dry_run: bool, as_json: bool, **asked: Any
) -> "tuple[NightOutcome, ...]":
    """Run the backfill as a flow of this process, or only plan it; print what came of it.

    Parameters
    ----------
    start, end, last
        As of :func:`flows.backfill.backfill`.
    asked
        As for :func:`flows.backfill_survey.plan_backfill`.
    """
    # Before the flow is imported, which takes seconds: mistyped days are refused at once.
    days = Days(start, end, last)
    set_up_environment()
    check_prefect_settings()
    from flows.backfill import NightsFailedError, backfill
    from flows.backfill_summary import print_outcomes, print_plan
    from flows.backfill_survey import plan_backfill
    from flows.prefect_api import check_api
    from flows.progress import observed_by
    from flows.progress_bar import ProgressBar
    from flows.unreported_end import result_of

    raise_when_interrupted()
    check_api(purpose="to start the runs of a backfill")
    if dry_run:
        print_plan(plan_backfill(days, **asked), as_json=as_json)
        return ()
    with ProgressBar(shown=not as_json) as bar, observed_by(bar):
        try:
            outcomes = result_of(
                lambda: backfill(start, end, last, at_most=at_most, **asked), done="this is what came of the nights"
            )
        except NightsFailedError as error:
            outcomes = error.outcomes
        except KeyboardInterrupt:
            sys.stderr.write("ssdnet: nights that were started go on by themselves\n")
            raise
    print_outcomes(outcomes, as_json=as_json)
    return outcomes
