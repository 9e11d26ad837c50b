import uuid
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.backfill_plan import (
    NightRun,
    NightState,
    PlannedNight,
    RunState,
    StoredNight,
    attempt_key,
    attempt_of,
    interleaved,
    plan_nights,
    startable,
    without_runs,
)
from tasks.nights import Night
from tasks.seal import Seal
from tests.flows.flow_runs import LINE

MINE, OTHER = LINE.config.fingerprint(), "b" * 12
DAYS = [date(2026, 11, 1) + timedelta(days=offset) for offset in range(5)]


def seal(images, passing=0):
    done = images - passing
    return Seal(
        batch="n",
        fingerprint=MINE,
        images=images,
        inspected=done,
        failed=passing,
        defective=0,
        digest="",
        passing=passing,
    )


def run(state, *, day=DAYS[0], fingerprint=MINE, attempt=0, elsewhere=False, refit=False):
    return NightRun(
        id=uuid.uuid4(),
        day=day,
        fingerprint=fingerprint,
        state=state,
        attempt=attempt,
        elsewhere=elsewhere,
        refit=refit,
    )


def plan(stored, *runs, force=False):
    [night] = plan_nights(LINE, {Night("line-1", DAYS[0]): stored}, config=LINE.config, runs=runs, force=force)
    return night


stored_nights = st.builds(
    StoredNight,
    images=st.integers(0, 3),
    seal=st.none() | st.integers(0, 3).map(seal),
    problem=st.just(""),
)
histories = st.lists(
    st.builds(
        run,
        st.sampled_from(RunState),
        day=st.sampled_from(DAYS),
        fingerprint=st.sampled_from([MINE, OTHER]),
        attempt=st.integers(0, 5),
        elsewhere=st.booleans(),
        refit=st.booleans(),
    ),
    max_size=20,
)
storages = st.fixed_dictionaries({Night("line-1", day): stored_nights for day in DAYS})


@given(storages, histories, st.booleans())
def test_every_night_is_planned_once_and_under_way_at_most_once(stored, runs, force):
    nights = plan_nights(LINE, stored, config=LINE.config, runs=runs, force=force)
    assert [night.night for night in nights] == list(stored)
    for night in nights:
        own = [r for r in runs if (r.day, r.fingerprint) == (night.night.day, MINE) and not r.elsewhere]
        # A forced attempt takes its turn behind a run that inspects only what is not inspected yet.
        forced = force and night.images
        under_way = [r for r in own if r.state is RunState.RUNNING and (r.refit or not forced)]
        scheduled = [r for r in own if r.state is RunState.SCHEDULED and not forced]
        assert not ((under_way or scheduled) and night.attempt)
        assert night.run in {None, *(r.id for r in under_way)}


@given(storages, histories)
def test_every_night_that_is_forced_and_has_images_is_inspected_again(stored, runs):
    refits = {r.id for r in runs if r.refit}
    for night in plan_nights(LINE, stored, config=LINE.config, runs=runs, force=True):
        if night.images:
            assert night.attempt or night.run in refits


@given(storages, histories)
def test_nothing_sealed_is_run_again_unless_it_has_new_images_or_its_last_run_failed(stored, runs):
    for night in plan_nights(LINE, stored, config=LINE.config, runs=runs):
        there = stored[night.night]
        own = [r for r in runs if (r.day, r.fingerprint) == (night.night.day, MINE) and not r.elsewhere]
        repaired = not own or own[-1].state is not RunState.FAILED
        if there.seal and there.images <= there.seal.images and repaired:
            assert not night.attempt


@given(storages, histories, st.booleans())
def test_a_backfill_that_was_killed_right_after_starting_its_nights_starts_none_of_them_again(stored, runs, force):
    before = plan_nights(LINE, stored, config=LINE.config, runs=runs, force=force)
    started = [run(RunState.RUNNING, day=n.night.day, attempt=n.attempt, refit=force) for n in before if n.attempt]
    again = plan_nights(LINE, stored, config=LINE.config, runs=[*runs, *started], force=force)
    assert not any(night.attempt for night in again)
    assert {night.run for night in again} >= {r.id for r in started}


@given(storages, histories)
def test_a_backfill_after_one_that_sealed_everything_starts_nothing(stored, runs):
    done = plan_nights(LINE, stored, config=LINE.config, runs=runs)
    ended_runs = [replace(r, state=RunState.COMPLETED) for r in runs]
    sealed = {
        n.night: replace(stored[n.night], seal=seal(stored[n.night].images)) if n.waits else stored[n.night]
        for n in done
    }
    again = plan_nights(LINE, sealed, config=LINE.config, runs=ended_runs)
    assert not [n for n in again if n.waits and next(d for d in done if d.night == n.night).waits]


@given(storages, histories, st.booleans())
def test_an_attempt_has_a_number_that_no_run_of_its_night_had(stored, runs, force):
    # The server answers a key that it knows with the run of old, failed or not.
    for night in plan_nights(LINE, stored, config=LINE.config, runs=runs, force=force):
        if night.attempt:
            numbers = {r.attempt for r in runs if (r.day, r.fingerprint) == (night.night.day, MINE)}
            assert night.attempt > max(numbers, default=0)


@pytest.mark.parametrize(
    ("stored", "runs", "state", "action"),
    [
        (StoredNight(images=3), [], NightState.TO_DO, "start"),
        (StoredNight(images=0), [], NightState.NO_IMAGES, "nothing"),
        (StoredNight(images=0, problem="2 other files"), [], NightState.TO_DO, "start"),
        (StoredNight(images=3, seal=seal(3)), [], NightState.SEALED, "nothing"),
        (StoredNight(images=3, seal=seal(2)), [run(RunState.COMPLETED)], NightState.NEW_IMAGES, "start attempt 2"),
        (StoredNight(images=0, seal=seal(3)), [], NightState.SEALED, "nothing"),
        (StoredNight(images=3, seal=seal(3, passing=1)), [], NightState.PASSING_FAILURES, "start"),
        (StoredNight(images=0, seal=seal(3, passing=1)), [], NightState.SEALED, "nothing"),
        (StoredNight(images=3), [run(RunState.FAILED)], NightState.FAILED, "start attempt 2"),
        # It failed after the seal, while measuring or comparing.
        (StoredNight(images=3, seal=seal(3)), [run(RunState.FAILED)], NightState.FAILED, "start attempt 2"),
        (
            StoredNight(images=3, seal=seal(3)),
            [run(RunState.COMPLETED), run(RunState.FAILED)],
            NightState.FAILED,
            "start attempt 3",
        ),
        (
            StoredNight(images=3, seal=seal(3)),
            [run(RunState.FAILED), run(RunState.COMPLETED)],
            NightState.SEALED,
            "nothing",
        ),
        (StoredNight(images=3, seal=seal(3)), [run(RunState.FAILED, elsewhere=True)], NightState.SEALED, "nothing"),
        (StoredNight(images=0, seal=seal(3)), [run(RunState.FAILED)], NightState.SEALED, "nothing"),
        (StoredNight(images=3, seal=seal(2)), [run(RunState.FAILED)], NightState.NEW_IMAGES, "start attempt 2"),
        (StoredNight(images=3), [run(RunState.FAILED, fingerprint=OTHER)], NightState.TO_DO, "start"),
        (StoredNight(images=3), [run(RunState.FAILED), run(RunState.RUNNING)], NightState.RUNNING, "wait for it"),
        (StoredNight(images=3, seal=seal(3)), [run(RunState.RUNNING)], NightState.RUNNING, "wait for it"),
        (StoredNight(images=3), [run(RunState.SCHEDULED)], NightState.SCHEDULED, "leave it to the run that is planned"),
        (StoredNight(images=3), [run(RunState.RUNNING, elsewhere=True)], NightState.TO_DO, "start attempt 2"),
        (StoredNight(images=3), [run(RunState.FAILED, attempt=4, elsewhere=True)], NightState.TO_DO, "start attempt 5"),
        (StoredNight(images=3), [run(RunState.SCHEDULED, elsewhere=True)], NightState.TO_DO, "start attempt 2"),
    ],
)
def test_what_is_done_follows_from_storage_and_runs(stored, runs, state, action):
    night = plan(stored, *runs)
    assert (night.state, night.action) == (state, action)


def test_force_inspects_a_sealed_night_again_but_not_one_whose_images_are_gone():
    assert plan(StoredNight(images=3, seal=seal(3)), run(RunState.COMPLETED), force=True).action == "start attempt 2"
    gone = plan(StoredNight(images=0, seal=seal(3)), force=True)
    assert (gone.state, gone.action) == (NightState.SEALED, "nothing")


@pytest.mark.parametrize("there", [None, seal(3)])
def test_force_is_not_satisfied_with_a_run_that_leaves_what_is_inspected(there):
    stored = StoredNight(images=3, seal=there)
    queued = plan(stored, run(RunState.RUNNING), force=True)
    assert (queued.state, queued.action) == (NightState.RUNNING, "start attempt 2, after the run that is under way")
    assert plan(stored, run(RunState.SCHEDULED), force=True).attempt == 2
    forced = run(RunState.RUNNING, refit=True)
    assert plan(stored, run(RunState.RUNNING), forced, force=True).run == forced.id
    assert plan(stored, forced).run == forced.id, "a night that is not forced is served by one that is"


@given(storages, histories, st.booleans())
def test_nights_of_a_line_that_cannot_run_are_given_up_and_what_needs_no_run_stands(stored, runs, force):
    before = plan_nights(LINE, stored, config=LINE.config, runs=runs, force=force)
    for night, given_up in zip(before, without_runs(before, "its limit is 0"), strict=True):
        assert not given_up.waits
        assert given_up == night if not night.waits else given_up.reason == "its limit is 0"


lines = st.sampled_from([replace(LINE, deployment=f"nightly/{limit}", limit=limit) for limit in (None, 1, 2, 3)])
nights = st.lists(
    st.builds(
        PlannedNight,
        line=lines,
        config=st.just(LINE.config),
        night=st.builds(Night, line=st.just("l"), day=st.sampled_from(DAYS)),
        images=st.just(1),
        state=st.just(NightState.TO_DO),
        attempt=st.just(1),
    ),
    max_size=12,
)


@given(nights, nights, st.integers(1, 6))
def test_never_more_nights_at_once_than_allowed_in_all_and_of_a_deployment(todo, active, at_most):
    chosen = startable(todo, active, at_most=at_most)
    counts = Counter(night.deployment for night in [*active, *chosen])
    assert not chosen or len(active) + len(chosen) <= at_most
    for night in chosen:
        assert counts[night.deployment] <= (night.line.limit or at_most)
    if not active and todo:
        assert chosen, "where nothing runs, something starts"


def test_lines_come_along_side_by_side():
    def planned(line, day):
        return PlannedNight(
            line=replace(LINE, deployment=f"nightly/{line}"),
            config=LINE.config,
            night=Night(line, day),
            images=1,
            state=NightState.TO_DO,
            attempt=1,
        )

    plans = [[planned(line, day) for day in DAYS[:2]] for line in ("line-2", "line-1")]
    assert [str(night.night) for night in interleaved(plans)] == [
        "line-1 2026-11-01",
        "line-2 2026-11-01",
        "line-1 2026-11-02",
        "line-2 2026-11-02",
    ]


@given(st.text(), st.sampled_from(DAYS), st.integers(1, 10**6), st.booleans())
def test_the_attempt_is_read_back_from_its_key(deployment, day, attempt, refit):
    key = attempt_key(deployment, day, fingerprint=MINE, attempt=attempt, refit=refit)
    assert attempt_of(key) == attempt


@pytest.mark.parametrize("key", [None, "", "another", "a|b|c|d|e", "scheduled 5e4f 2026-11-01T02:00:00"])
def test_a_key_that_is_no_backfills_has_no_attempt(key):
    assert attempt_of(key) == 0


def test_keys_of_other_nights_lines_and_settings_differ_and_that_of_a_forced_attempt():
    plain = {"fingerprint": MINE, "attempt": 1, "refit": False}
    keys = {
        attempt_key(LINE.deployment, DAYS[0], **plain),
        attempt_key(LINE.deployment, DAYS[1], **plain),
        attempt_key(LINE.deployment, DAYS[0], **{**plain, "fingerprint": OTHER}),
        attempt_key("nightly/line-2", DAYS[0], **plain),
        attempt_key(LINE.deployment, DAYS[0], **{**plain, "attempt": 2}),
        attempt_key(LINE.deployment, DAYS[0], **{**plain, "refit": True}),
    }
    assert len(keys) == 6


def test_a_night_whose_line_has_no_folder_is_given_up_with_the_reason_unless_it_is_sealed():
    lost = StoredNight(images=0, problem="no line 'line-1' in s3://images: there are line-2", hopeless=True)
    night = plan(lost, force=True)
    assert (night.state, night.attempt, night.reason) == (NightState.FAILED, 0, lost.problem)
    assert lost.problem in night.action
    assert plan(replace(lost, seal=seal(2))).state is NightState.SEALED
    running = run(RunState.RUNNING)
    assert plan(lost, running).run == running.id
