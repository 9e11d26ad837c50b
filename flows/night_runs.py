"""Nights on the Prefect server: the runs they had, and starting another."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.backfill_plan import NightRun, PlannedNight, RunState, attempt_key, attempt_of
from flows.line import Line
from flows.nightly import nightly
from flows.prefect_api import PAGE_SIZE, paged, server
from ssdnet_core.config import parse_config
from ssdnet_core.errors import SsdnetError
from tasks.nights import day_before
from tasks.storage import Storage

DUE_SOON = timedelta(minutes=5)
"""A run that is planned to start within this time is waited for as one that runs."""


class RunRefusedError(SsdnetError):
    """The server starts no run of a deployment; it may of others."""


def read_runs(line: Line, *, start: date) -> list[NightRun]:
    """Return the runs of a line's nights from a day on, oldest first."""
    now = datetime.now(UTC)
    # A night's run starts after the night.
    span = FlowRunFilterExpectedStartTime(after_=datetime.combine(start, time(), UTC) - timedelta(days=1))
    chosen = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[line.id]), expected_start_time=span)
    with server() as client:
        runs = paged(lambda offset: client.read_flow_runs(flow_run_filter=chosen, limit=PAGE_SIZE, offset=offset))
    nights = (night_run(run, line, now=now) for run in sorted(runs, key=lambda run: run.expected_start_time or now))
    return [night for night in nights if night is not None]


def start_run(planned: PlannedNight, *, refit: bool) -> UUID:
    """Start an attempt at a night through the deployment of its line, or find it started.

    Raises
    ------
    RunRefusedError
        If the deployment is gone, or the server refuses what its run is given.
    NoPrefectApiError
        If the server does not answer.
    """
    line, config = planned.line, planned.config
    changed: dict[str, Any] = {} if config == line.config else {"config": config.model_dump(mode="json")}
    # Not by the deployment's name: one that was deleted and made again would be given its earlier runs.
    key = attempt_key(
        str(line.id), planned.night.day, fingerprint=planned.fingerprint, attempt=planned.attempt, refit=refit
    )
    try:
        with server():
            run: Any = run_deployment(
                line.id,
                parameters={"day": planned.night.day.isoformat(), **changed, **({"refit": True} if refit else {})},
                flow_run_name=f"{nightly.name} {planned.night}",
                idempotency_key=key,
                timeout=0,
            )
    except ObjectNotFound as error:
        raise RunRefusedError(
            f"deployment {line.deployment} was deleted or deployed under another id meanwhile: run the backfill again"
        ) from error
    except httpx.HTTPStatusError as error:
        raise RunRefusedError(
            f"the server refuses a run of deployment {line.deployment}: {_said(error.response)}: deploy it again, with "
            "the flow of this version"
        ) from error
    return run.id


def look_up(ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
    """Return how runs stand; one that was deleted is missing.

    Raises
    ------
    NoPrefectApiError
        If the server does not answer.
    """
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(ids)))
    with server() as client:
        runs = paged(lambda offset: client.read_flow_runs(flow_run_filter=wanted, limit=PAGE_SIZE, offset=offset))
    return {run.id: run for run in runs}


def pool_of(run: UUID) -> str | None:
    """Return the work pool that a run takes a place of, None for one that was started by hand."""
    with server() as client:
        return client.read_flow_run(run).work_pool_name


def night_run(run: FlowRun, line: Line, *, now: datetime) -> NightRun | None:
    """Return what a run of a line's deployment tells of a night; None if its parameters are invalid."""
    parameters, start = run.parameters, run.expected_start_time or now
    try:
        given = parameters.get("day")
        day = date.fromisoformat(str(given)[:10]) if given else day_before(start, parameters.get("timezone"))
        fingerprint = parse_config(parameters.get("config") or {}).fingerprint()
        elsewhere = _places(parameters) != (line.name, Storage(line.images).address, Storage(line.results).address)
    except (ValueError, SsdnetError):
        return None  # With these parameters it failed at once.
    return NightRun(
        id=run.id,
        day=day,
        fingerprint=fingerprint,
        state=run_state(run, start=start, now=now),
        attempt=attempt_of(run.idempotency_key),
        elsewhere=elsewhere,
        refit=parameters.get("refit") is True,
    )


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}"


def _places(parameters: Mapping[str, Any]) -> tuple[str, str, str]:
    images, results = (Storage(str(parameters.get(name) or "")).address for name in ("images", "results"))
    return str(parameters.get("line")), images, results


def run_state(run: FlowRun, *, start: datetime, now: datetime) -> RunState:
    """Return how a run stands; one that is planned for much later is not under way."""
    state = run.state
    if state is None or not state.is_final():
        # A run of another backfill is due at once, even if two machines' clocks differ.
        planned = (state is None or state.is_scheduled()) and not attempt_of(run.idempotency_key)
        waits = planned and start > now + DUE_SOON
        return RunState.SCHEDULED if waits else RunState.RUNNING
    return RunState.COMPLETED if state.is_completed() else RunState.FAILED
