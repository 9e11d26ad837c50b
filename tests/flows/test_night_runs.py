"""What a line's runs tell of its nights."""

from datetime import date, datetime, timedelta

import pytest
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Late, Paused, Pending, Running, Scheduled

from flows.backfill_plan import RunState, attempt_key
from flows.night_runs import DUE_SOON, night_run, read_runs, run_state
from flows.prefect_api import PAGE_SIZE
from ssdnet_core.config import Config
from tests.flows.flow_runs import DUE, LINE, RunsApi, flow_run, serving

DAY = date(2026, 11, 22)
LATER = timedelta(hours=3)


@pytest.mark.parametrize(
    ("state", "stands"),
    [
        (Completed(), RunState.COMPLETED),
        (Completed(name="NoImages"), RunState.COMPLETED),
        (Failed(), RunState.FAILED),
        (Crashed(), RunState.FAILED),
        (Cancelled(), RunState.FAILED),
        (Cancelling(), RunState.RUNNING),
        (Pending(), RunState.RUNNING),
        (Running(), RunState.RUNNING),
        (Paused(), RunState.RUNNING),
        (Late(scheduled_time=DUE), RunState.RUNNING),
    ],
)
def test_a_run_is_under_way_until_it_has_ended(state, stands):
    for by_schedule in (False, True):
        run = flow_run(state, auto_scheduled=by_schedule)
        assert run_state(run, start=DUE, now=DUE + LATER) is stands


@pytest.mark.parametrize(
    ("by_schedule", "before", "stands"),
    [
        (True, LATER, RunState.SCHEDULED),
        (True, DUE_SOON + timedelta(seconds=1), RunState.SCHEDULED),
        (True, DUE_SOON, RunState.RUNNING),
        (True, timedelta(seconds=1), RunState.RUNNING),
        (True, -LATER, RunState.RUNNING),
        (False, LATER, RunState.SCHEDULED),
        (False, DUE_SOON, RunState.RUNNING),
    ],
)
def test_only_a_run_that_is_planned_for_later_than_soon_is_left_to_itself(by_schedule, before, stands):
    run = flow_run(Scheduled(scheduled_time=DUE), auto_scheduled=by_schedule)
    assert run_state(run, start=DUE, now=DUE - before) is stands


@pytest.mark.parametrize("before", [LATER, DUE_SOON, -LATER])
def test_the_run_of_another_backfill_is_under_way_whatever_the_clock(before):
    key = attempt_key(LINE.deployment, DAY, fingerprint=Config().fingerprint(), attempt=1, refit=False)
    run = flow_run(Scheduled(scheduled_time=DUE), idempotency_key=key)
    assert run_state(run, start=DUE, now=DUE - before) is RunState.RUNNING


def test_a_run_is_of_the_day_that_it_names_or_else_of_the_day_before_its_start_at_the_site():
    assert night_run(flow_run(), LINE, now=DUE).day == DAY
    late = datetime(2026, 11, 22, 23, 30, tzinfo=DUE.tzinfo)
    assert night_run(flow_run(due=late), LINE, now=DUE).day == DAY, "00:30 in Madrid, on the 23rd"
    assert night_run(flow_run(due=late, timezone=None), LINE, now=DUE).day == DAY - timedelta(days=1)
    for day in ("2026-11-01", "2026-11-01T00:00:00"):
        assert night_run(flow_run(day=day), LINE, now=DUE).day == date(2026, 11, 1)


def test_a_run_has_the_settings_that_it_was_given_and_the_attempt_of_its_key():
    other = Config().updated({"seed": 1})
    key = attempt_key(LINE.deployment, DAY, fingerprint=other.fingerprint(), attempt=3, refit=False)
    run = flow_run(Failed(), config={"seed": 1}, idempotency_key=key)
    night = night_run(run, LINE, now=DUE)
    assert (night.id, night.fingerprint, night.state, night.attempt) == (
        run.id,
        other.fingerprint(),
        RunState.FAILED,
        3,
    )
    plain = night_run(flow_run(), LINE, now=DUE)
    assert (plain.fingerprint, plain.attempt) == (Config().fingerprint(), 0)


def test_a_run_inspects_everything_again_if_it_was_told_to_by_a_backfill_or_by_hand():
    assert not night_run(flow_run(), LINE, now=DUE).refit
    assert night_run(flow_run(refit=True), LINE, now=DUE).refit


@pytest.mark.parametrize(
    "wrong", [{"day": "yesterday"}, {"config": {"seeed": 1}}, {"timezone": "Europe/Atlantis"}, {"results": ""}]
)
def test_a_run_with_settings_that_are_none_tells_nothing_of_any_night(wrong):
    assert night_run(flow_run(Failed(), **wrong), LINE, now=DUE) is None


@pytest.mark.parametrize(
    "changes", [{"results": "s3://trial"}, {"images": "s3://images/copy"}, {"line": "line-2"}, {"results": "/results"}]
)
def test_a_custom_run_of_another_line_images_or_results_is_elsewhere(changes):
    assert night_run(flow_run(day="2026-11-22", **changes), LINE, now=DUE).elsewhere


@pytest.mark.parametrize("changes", [{}, {"day": "2026-11-22"}, {"results": "s3://results/"}, {"masks": "s3://masks"}])
def test_a_run_with_the_deployments_own_addresses_is_not(changes):
    assert not night_run(flow_run(**changes), LINE, now=DUE).elsewhere


def test_all_runs_of_a_line_are_read_oldest_first_however_many_pages_they_fill():
    count = 2 * PAGE_SIZE + 1
    runs = [flow_run(Completed(), due=DUE - timedelta(hours=number)) for number in range(count)]
    with serving(RunsApi(runs)) as api:
        found = read_runs(LINE, start=DAY)
    assert [night.id for night in found] == [run.id for run in reversed(runs)]
    assert [asked["offset"] for asked in api.asked] == [0, PAGE_SIZE, 2 * PAGE_SIZE]


def test_runs_are_asked_for_of_this_line_and_from_the_day_on_however_late_they_are_planned():
    with serving(RunsApi([flow_run(), flow_run(day="yesterday")])) as api:
        assert len(read_runs(LINE, start=DAY)) == 1
    [asked] = [asked["flow_runs"] for asked in api.asked]
    assert asked["deployment_id"]["any_"] == [str(LINE.id)]
    for zone in (timedelta(hours=-12), timedelta(hours=14)):
        after = datetime.fromisoformat(asked["expected_start_time"]["after_"])
        assert after <= datetime(2026, 11, 23, tzinfo=DUE.tzinfo) - zone
    assert asked["expected_start_time"].get("before_") is None
