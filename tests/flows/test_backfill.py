"""How long a backfill goes on watching while the server or the storage is away; by a clock of its own.

Also what becomes of nights whose runs are lost, and which backfills are refused.
"""

import logging
import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from prefect.states import (
    AwaitingConcurrencySlot,
    Cancelled,
    Completed,
    Failed,
    Late,
    Pending,
    Running,
    Scheduled,
)

from flows import backfill as flow
from flows import monitoring
from flows.api_address import NoPrefectApiError
from flows.backfill import POLL_SECONDS, NightOutcome, NightsFailedError, carry_out
from flows.backfill_plan import BackfillError, NightState, PlannedNight
from flows.backfill_watch import UNTAKEN_SECONDS
from flows.progress import Observer, Results, observed_by
from tasks.nights import Night
from tasks.seal import Seal
from tasks.storage_answers import StorageError
from tasks.stored_json import to_json
from tests.flows.flow_runs import DUE, LINE, RunsApi, flow_run, serving

NIGHT = Night("line-1", date(2026, 11, 22))
FINGERPRINT = LINE.config.fingerprint()
SEAL = Seal(batch=NIGHT.batch, fingerprint=FINGERPRINT, images=2, inspected=2, failed=0, defective=0, digest="")
PATIENCE = 20.0
TRIES = int(PATIENCE / (2 * POLL_SECONDS))
"""Questions without an answer until patience is over: one waits before each, and after it."""


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in sleep; calls ``wakes`` after each."""
    clock = SimpleNamespace(now=0.0, wakes=lambda: None, monotonic=lambda: clock.now)

    def sleep(seconds):
        clock.now += seconds
        assert clock.now < 10 * PATIENCE, "it waits for ever"
        clock.wakes()

    clock.sleep = sleep
    monkeypatch.setattr(flow, "time", clock)
    monkeypatch.setattr(flow, "OUTAGE_SECONDS", PATIENCE)
    monkeypatch.setattr(flow, "get_run_logger", logging.getLogger)
    return clock


@pytest.fixture
def results(tmp_path):
    """A folder of results in which the night is sealed."""
    (tmp_path / NIGHT.batch).mkdir()
    (tmp_path / NIGHT.batch / "seal.json").write_bytes(to_json(SEAL))
    return tmp_path


def watched(run, results):
    """The outcome of a plan that waits for one run."""
    line = replace(LINE, results=str(results))
    night = PlannedNight(line=line, config=line.config, night=NIGHT, images=2, state=NightState.RUNNING, run=run.id)
    [outcome] = carry_out([night], at_most=1, force=False)
    return outcome


def test_a_server_that_comes_back_in_time_costs_no_night(clock, results):
    run = flow_run(Completed())
    with serving(RunsApi([run], away=TRIES - 1)):
        assert watched(run, results).seal == SEAL
    assert 0.5 * PATIENCE < clock.now < PATIENCE


def test_a_server_that_stays_away_ends_the_watch_after_a_while(clock, results):
    run = flow_run(Completed())
    with serving(RunsApi([run], away=10 * TRIES)), pytest.raises(NoPrefectApiError, match="answers 503"):
        watched(run, results)
    assert PATIENCE < clock.now < 1.5 * PATIENCE


def test_patience_begins_anew_with_each_answer(clock, results):
    run = flow_run(Running())
    with serving(RunsApi([run], away=TRIES - 1)) as api:

        def away_again_after_an_answer():
            if api.asked and api.runs == [run]:
                api.away, api.runs = TRIES - 1, [run.model_copy(update={"state": Completed()})]

        clock.wakes = away_again_after_an_answer
        assert watched(run, results).state is NightState.SEALED
    assert clock.now > 1.2 * PATIENCE


@pytest.mark.parametrize("away", [0.5, 2])
def test_a_storage_that_is_away_is_waited_for_as_long(clock, results, away):
    run, seal = flow_run(Completed()), results / NIGHT.batch / "seal.json"
    content = seal.read_bytes()
    seal.unlink()
    seal.mkdir()  # Which cannot be read.

    def comes_back():
        if clock.now >= away * PATIENCE and seal.is_dir():
            seal.rmdir()
            seal.write_bytes(content)

    clock.wakes = comes_back
    with serving(RunsApi([run])):
        if away < 1:
            assert watched(run, results).seal == SEAL
        else:
            with pytest.raises(StorageError, match="cannot read"):
                watched(run, results)
            assert PATIENCE < clock.now < 1.5 * PATIENCE


def test_a_login_page_in_place_of_the_results_is_waited_for_like_a_storage_that_is_away(clock, results):
    run, seal = flow_run(Completed()), results / NIGHT.batch / "seal.json"
    content = seal.read_bytes()
    seal.write_text("<html><title>Log in</title></html>")

    def logged_in():
        if clock.now >= 0.5 * PATIENCE:
            seal.write_bytes(content)

    clock.wakes = logged_in
    with serving(RunsApi([run])):
        assert watched(run, results).seal == SEAL
    assert clock.now >= 0.5 * PATIENCE


class Shown(Observer):
    """An observer: how the nights stood at each look, and the hints by the time of the clock."""

    def __init__(self, clock):
        self.clock, self.nights, self.hints = clock, [], {}

    def waiting(self, *, running, queued, **counts):
        self.nights.append((running, queued))

    def hint(self, text):
        self.hints[self.clock.now] = text


def shown(clock, results, states):
    """What is shown of a run whose state changes at these times; the last one is its end."""
    run = flow_run(states[0.0])
    shown = Shown(clock)
    with serving(RunsApi([run])) as api, observed_by(shown):

        def changes():
            now = max(at for at in states if at <= clock.now)
            api.runs = [run.model_copy(update={"state": states[now]})]

        clock.wakes = changes
        assert watched(run, results).seal == SEAL
    return shown


def late(kind=Late):
    return kind(scheduled_time=DUE)


@pytest.mark.parametrize(
    ("state", "name"),
    [(late(Scheduled), "Scheduled"), (late(), "Late"), (late(AwaitingConcurrencySlot), "AwaitingConcurrencySlot")],
)
def test_a_night_that_no_worker_has_taken_is_not_shown_as_running(clock, results, state, name):
    told = shown(clock, results, {0.0: state, 10.0: Running(), 20.0: Completed()})
    assert told.nights[0] == ([], [f"{NIGHT} ({name})"])
    assert told.nights[-1] == ([str(NIGHT)], [])
    assert not told.hints


def test_runs_that_nothing_takes_are_hinted_at_once_with_their_pool(clock, results):
    [(at, hint)] = shown(clock, results, {0.0: late(), 190.0: Completed()}).hints.items()
    assert UNTAKEN_SECONDS < at < UNTAKEN_SECONDS + 3 * POLL_SECONDS
    assert "worker of the work pool 'inspection' started" in hint


def test_a_run_that_was_taken_is_waited_for_without_a_hint(clock, results):
    assert not shown(clock, results, {0.0: late(), 100.0: Pending(), 190.0: Completed()}).hints
    clock.now = 0.0
    assert not shown(clock, results, {0.0: late(), 100.0: Pending(), 102.0: late(), 190.0: Completed()}).hints


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, "its run was deleted"),
        (Failed(message="no image in /night"), "Failed: no image in /night"),
        (Cancelled(), "Cancelled: no reason given"),
        (Completed(), "its run completed, but left no seal: was the batch changed or deleted?"),
    ],
)
def test_a_night_whose_run_left_no_seal_has_failed_and_says_why(clock, tmp_path, state, reason):
    run = flow_run(state)
    with serving(RunsApi([run] if state else [])):
        outcome = watched(run, tmp_path)
    assert (outcome.state, outcome.seal, outcome.run) == (NightState.FAILED, None, run.id)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ("", "deployment nightly/line-0 was deleted or deployed under another id meanwhile: run the backfill again"),
        ("'day' is no parameter", "the server refuses a run of .*line-0: 'day' is no parameter: deploy it"),
    ],
)
def test_a_deployment_that_starts_no_run_fails_its_nights_alone(clock, results, refusal, reason):
    lines = [replace(LINE, deployment=f"nightly/{name}", id=uuid4(), results=str(results)) for name in ("line-0", "1")]
    nights = tuple(
        PlannedNight(
            line=line,
            config=line.config,
            night=night,
            images=2,
            state=NightState.TO_DO,
            attempt=1,
        )
        for line, night in zip(lines, (replace(NIGHT, line="line-0"), NIGHT), strict=True)
    )
    known = {lines[1].id: "", **({lines[0].id: refusal} if refusal else {})}
    with serving(RunsApi([], deployments=known)):
        lost, sealed = carry_out(nights, at_most=1, force=False)
    assert (lost.state, sealed.state) == (NightState.FAILED, NightState.SEALED)
    assert re.match(reason, lost.reason)


@pytest.mark.parametrize("own", ["inspection", "backfills", None])
def test_a_backfill_that_takes_a_place_of_the_pool_of_its_nights_is_refused(monkeypatch, own):
    run = flow_run()
    monkeypatch.setattr(flow, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id=str(run.id))))
    monkeypatch.setattr(flow, "pool_of", {run.id: own}.get)
    lines = [LINE, replace(LINE, deployment="nightly/line-2", pool="elsewhere")]
    if own == LINE.pool:
        with pytest.raises(BackfillError, match=r"'inspection' that the nights of nightly/line-1 need"):
            flow._refuse_to_wait_for_itself(lines)
    else:
        flow._refuse_to_wait_for_itself(lines)


@pytest.mark.parametrize("force", [False, True])
def test_a_run_is_started_for_its_day_and_inspects_every_image_again_only_where_that_is_forced(clock, results, force):
    line = replace(LINE, results=str(results))
    night = PlannedNight(line=line, config=line.config, night=NIGHT, images=2, state=NightState.TO_DO, attempt=1)
    with serving(RunsApi([], deployments={line.id: ""})) as api:
        carry_out([night], at_most=1, force=force)
    [started] = api.started
    assert started["parameters"] == {"day": "2026-11-22", **({"refit": True} if force else {})}


@pytest.mark.parametrize("state", [NightState.SEALED, NightState.FAILED])
def test_what_came_of_the_nights_is_told_though_the_server_takes_no_table_any_more(monkeypatch, state):
    told = Results()
    planned = PlannedNight(line=LINE, config=LINE.config, night=NIGHT, images=2, state=NightState.TO_DO, attempt=1)
    outcomes = (NightOutcome(planned=planned, state=state),)

    def refuse(**_):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(flow, "plan_backfill", lambda *_, **__: (planned,))
    monkeypatch.setattr(flow, "_refuse_to_wait_for_itself", lambda _: None)
    monkeypatch.setattr(flow, "carry_out", lambda *_, **__: outcomes)
    monkeypatch.setattr(flow, "create_table_artifact", refuse)
    monkeypatch.setattr(monitoring, "get_run_logger", logging.getLogger)
    failed = pytest.raises(NightsFailedError) if state is NightState.FAILED else nullcontext()
    with observed_by(told), failed:
        assert flow.backfill.fn(last=1) == outcomes
    assert told.all == [outcomes]
