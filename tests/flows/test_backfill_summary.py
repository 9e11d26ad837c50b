from datetime import date

from flows.backfill import NightOutcome
from flows.backfill_plan import NightState, PlannedNight
from flows.backfill_summary import outcome_tree, planned_tree
from tasks.nights import Night

LOST = PlannedNight(
    deployment="nightly/line-1",
    night=Night("line-1", date(2026, 11, 1)),
    fingerprint="",
    images=0,
    state=NightState.FAILED,
    reason="no line 'line-1'",
)


def test_a_plan_for_machines_says_what_is_done_and_why_a_night_is_given_up():
    tree = planned_tree(LOST)
    assert (tree["action"], tree["reason"]) == ("nothing: no line 'line-1'", "no line 'line-1'")


def test_an_outcome_for_machines_has_the_reason_that_its_run_failed_for():
    outcome = NightOutcome(planned=LOST, state=NightState.FAILED, reason="its run was deleted")
    assert outcome_tree(outcome)["reason"] == "its run was deleted"
