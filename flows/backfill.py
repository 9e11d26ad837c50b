"""Nights over a range of days, each through the deployment of its line.

The nights are runs of their own on the server: a backfill only plans, starts and watches. One that is stopped or
killed leaves nothing half done; the next sees what is sealed and what is still running, and goes on.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun
from pydantic import Field

from flows.api_address import NoPrefectApiError
from flows.backfill_days import Days
from flows.backfill_plan import BackfillError, NightState, PlannedNight, startable
from flows.backfill_survey import plan_backfill
from flows.backfill_watch import Watch
from flows.events import NO_IMAGES
from flows.line import Line
from flows.monitoring import harmless
from flows.night_runs import RunRefusedError, look_up, pool_of, start_run
from flows.progress import observer
from ssdnet_core.config import Config
from ssdnet_core.errors import SsdnetError
from tasks.finished_batch import find_seal
from tasks.seal import Seal
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.words import counted

POLL_SECONDS = 2.0
OUTAGE_SECONDS = 600.0
"""How long the server or the storage may be away, as for a restart, before a backfill gives up watching."""


class NightsFailedError(SsdnetError):
    """Some nights of a backfill were not sealed; ``outcomes`` has all of them."""

    def __init__(self, outcomes: "tuple[NightOutcome, ...]") -> None:
        failed = [outcome for outcome in outcomes if outcome.state is NightState.FAILED]
        first = f"{failed[0].planned.night}: {failed[0].reason}"
        super().__init__(f"{len(failed)} of {counted(len(outcomes), 'night')} failed; the first is {first}")
        self.outcomes = outcomes


@dataclass(frozen=True, kw_only=True)
class NightOutcome:
    """What became of a planned night.

    Attributes
    ----------
    state
        How it stands at the end.
    seal
        Its batch's seal, if there is one.
    run
        The run that was waited for, if any.
    reason
        Why it failed, else empty.
    """

    planned: PlannedNight
    state: NightState
    seal: Seal | None = None
    run: UUID | None = None
    reason: str = ""


def _run_name() -> str:
    start, end, last = (runtime.flow_run.parameters.get(name) for name in ("start", "end", "last"))
    return f"backfill the last {counted(last, 'night')}" if last else f"backfill {start} to {end}"


@flow(name="backfill", flow_run_name=_run_name, persist_result=False)
def backfill(  # noqa: PLR0917 - Prefect calls by name
    start: date | None = None,
    end: date | None = None,
    last: Annotated[int, Field(ge=1)] | None = None,
    lines: list[str] | None = None,
    deployments: list[str] | None = None,
    at_most: Annotated[int, Field(ge=1)] = 2,
    force: bool = False,
    dry_run: bool = False,
    config: Config | None = None,
    changes: dict[str, Any] | None = None,
) -> tuple[NightOutcome, ...]:
    """Inspect the nights of a range of days that are not sealed yet, each through the deployment of its line.

    A night that runs already is waited for; one that failed gets another attempt. Nights inspected with other settings
    stay as they are, beside the new results.

    Args:
        start: The first day.
        end: The last day, which must be over.
        last: Number of nights, instead of start and end, counted back from each line's last one: 3 are last night
            and the two before it.
        lines: Names of the lines (cameras); by default all that are deployed.
        deployments: Names of the deployments, as nightly/line-1, where a line has several.
        at_most: Most nights at once. A line's own limit, one night at a time, holds besides.
        force: Inspect every image again, of nights that are sealed as well.
        dry_run: Start nothing; the plan is among the run's artifacts.
        config: Settings of the method instead of the deployment's own.
        changes: Single settings on top of those, by dotted names, as {"fit.steps": 50}.
    """
    days = Days(start, end, last)
    nights = plan_backfill(days, lines=lines, deployments=deployments, force=force, config=config, changes=changes)
    if dry_run:
        _leave_table([planned_row(night) for night in nights], what="plan")
        return tuple(NightOutcome(planned=night, state=night.state, seal=night.seal) for night in nights)
    _refuse_to_wait_for_itself(dict.fromkeys(night.line for night in nights if not night.line.problem))
    outcomes = carry_out(nights, at_most=at_most, force=force)
    observer().ended(outcomes)
    with harmless():
        _leave_table([outcome_row(outcome) for outcome in outcomes], what="outcome")
    if any(outcome.state is NightState.FAILED for outcome in outcomes):
        raise NightsFailedError(outcomes)
    return outcomes


def carry_out(nights: Sequence[PlannedNight], *, at_most: int, force: bool) -> tuple[NightOutcome, ...]:
    """Start the nights of a plan, at most so many at once, and wait for them."""
    todo = [night for night in nights if night.attempt]
    active = {night.run: night for night in nights if night.run is not None}
    outcomes = {
        night: NightOutcome(planned=night, state=night.state, seal=night.seal, reason=night.reason)
        for night in nights
        if not night.waits
    }
    answered, watch = time.monotonic(), Watch()
    while todo or active:
        try:
            for night in startable(todo, active.values(), at_most=at_most):
                started = _started(night, force=force)
                if isinstance(started, NightOutcome):
                    outcomes[night] = started
                else:
                    active[started] = night
                todo.remove(night)
            if not active:
                continue
            time.sleep(POLL_SECONDS)
            runs = look_up(active)
            ended = {
                run: _outcome(night, run=run, seen=runs.get(run))
                for run, night in active.items()
                if _has_ended(runs.get(run))
            }
        except (NoPrefectApiError, StorageError):
            if time.monotonic() - answered > OUTAGE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        answered = time.monotonic()
        for run, outcome in ended.items():
            outcomes[active.pop(run)] = outcome
            get_run_logger().info("%s: %s %s", outcome.planned.night, outcome.state, outcome.reason)
        if active:
            watch.show(active, runs, done=len(outcomes), nights=len(nights))
        pools = {night.line.pool or "" for night in active.values()}
        if hint := watch.hint([runs[run] for run in active], pools=pools, now=answered):
            get_run_logger().warning(hint)
            observer().hint(hint)
    return tuple(outcomes[night] for night in nights)


def planned_row(planned: PlannedNight) -> dict[str, str]:
    """Return a planned night as a row of a table."""
    return {
        "deployment": planned.deployment,
        "night": str(planned.night),
        "state": planned.state,
        "images": str(planned.images),
        "to do": planned.action,
    }


def _started(night: PlannedNight, *, force: bool) -> UUID | NightOutcome:
    """Start a night's run and return its id, or the night's outcome if its deployment refuses it."""
    try:
        run = start_run(night, refit=force)
    except RunRefusedError as error:
        # Only this deployment is at fault: nights of others must still run.
        get_run_logger().warning("%s: %s", night.night, error)
        return NightOutcome(planned=night, state=NightState.FAILED, seal=night.seal, reason=str(error))
    get_run_logger().info("%s: attempt %d started", night.night, night.attempt)
    return run


def outcome_row(outcome: NightOutcome) -> dict[str, str]:
    """Return an outcome as a row of a table."""
    seal = outcome.seal
    return {
        "deployment": outcome.planned.deployment,
        "night": str(outcome.planned.night),
        "before": outcome.planned.state,
        "now": outcome.state,
        "images": str(seal.images if seal else outcome.planned.images),
        "defective": str(seal.defective) if seal else "",
        "not inspected": str(seal.failed) if seal else "",
        "reason": outcome.reason,
    }


def _has_ended(seen: FlowRun | None) -> bool:
    return seen is None or seen.state is None or seen.state.is_final()


def _outcome(night: PlannedNight, *, run: UUID, seen: FlowRun | None) -> NightOutcome:
    results = Storage(night.line.results)
    failed = NightOutcome(planned=night, state=NightState.FAILED, run=run)
    if seen is None or seen.state is None:
        return replace(failed, reason="its run was deleted")
    if not seen.state.is_completed():
        return replace(failed, reason=f"{seen.state.name}: {seen.state.message or 'no reason given'}")
    if seen.state.name == NO_IMAGES:
        return NightOutcome(planned=night, state=NightState.NO_IMAGES, run=run)
    seal = find_seal(results, night.night.batch, fingerprint=night.fingerprint)
    if seal is None:
        return replace(failed, reason="its run completed, but left no seal: was the batch changed or deleted?")
    return NightOutcome(planned=night, state=NightState.SEALED, seal=seal, run=run)


def _refuse_to_wait_for_itself(lines: Iterable[Line]) -> None:
    own = pool_of(UUID(str(runtime.flow_run.id)))
    shared = [line.deployment for line in lines if own is not None and line.pool == own]
    if shared:
        raise BackfillError(
            f"this backfill takes a place of the work pool {own!r} that the nights of {', '.join(shared)} need, and "
            "would wait for them for ever once it is full: deploy it to a work pool of its own"
        )


def _leave_table(rows: list[dict[str, str]], *, what: str) -> None:
    create_table_artifact(key=f"backfill-{what}", table=rows, description=counted(len(rows), "night"))
