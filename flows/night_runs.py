"""Nights on the Prefect server: the deployments of the lines, the runs they had, and starting another."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import run_deployment
from prefect.settings import get_current_settings

from flows.backfill_plan import BackfillError, NightRun, PlannedNight, RunState, attempt_key, attempt_of
from flows.named_server import ASK_FOR_API, NoPrefectApiError
from flows.nightly import nightly
from ssdnet_core.config import Config, parse_config
from ssdnet_core.errors import InvalidConfigError, SsdnetError
from tasks.address import AddressError
from tasks.nights import day_before, site_zone
from tasks.storage import Storage

Row = TypeVar("Row")

PAGE = 200
"""Most that the server returns at once."""
SOON = timedelta(minutes=5)
"""A run that its schedule starts within this time is waited for as one that runs."""
UNAVAILABLE = {401, 403, 407, 429, 500, 502, 503, 504}
"""Statuses with which the server, or a proxy before it, refuses whatever it is asked."""


@dataclass(frozen=True)
class Line:
    """A line's deployment, and what it runs its nights with.

    Attributes
    ----------
    deployment, id
        Name as ``nightly/line-1``, and id.
    name
        Of the line.
    images, results
        Addresses.
    timezone
        The site's.
    config
        Settings of the method.
    pool
        The work pool that its runs take a place of.
    limit
        Most of its runs at once; None for any number.
    problem
        Why no night can run through it, else empty.
    """

    deployment: str
    id: UUID
    name: str
    images: str
    results: str
    timezone: str
    config: Config
    pool: str | None
    limit: int | None
    problem: str = ""


def check_api(*, purpose: str) -> None:
    """Make sure that there is a Prefect API, and that it answers.

    Parameters
    ----------
    purpose
        What it is needed for, as "to register the automations".

    Raises
    ------
    NoPrefectApiError
        If there is none, or something else is at its address.
    """
    address = get_current_settings().api.url
    if not address:
        raise NoPrefectApiError(
            f"{purpose} a Prefect server is needed, and PREFECT_API_URL names none: start one with `ssdnet up` and "
            "source its environment.sh, or set PREFECT_API_URL, as http://127.0.0.1:4200/api"
        )
    with _server() as client:
        try:
            answer = client.hello().raise_for_status()
            problem = "answers with a page" if "text/html" in answer.headers.get("content-type", "") else ""
        except httpx.HTTPStatusError as error:
            if error.response.status_code in UNAVAILABLE:
                raise
            problem = f"answers {error.response.status_code} {error.response.reason_phrase}"
    if problem:
        raise NoPrefectApiError(f"what PREFECT_API_URL names, {address}, {problem}: {ASK_FOR_API}")


def find_lines(lines: Sequence[str] = (), deployments: Sequence[str] = ()) -> tuple[Line, ...]:
    """Return the deployments of the nightly flow: all, or those named by their line or their own name.

    Raises
    ------
    BackfillError
        If there is no such line or deployment, a line has several, or no night can run through one that was named, or
        through any.
    """
    with _server() as client:
        found = _paged(
            lambda offset: client.read_deployments(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[nightly.name])), limit=PAGE, offset=offset
            )
        )
    there = {f"{nightly.name}/{deployment.name}": deployment for deployment in found}
    if not there:
        raise BackfillError("no line is deployed: run `prefect --no-prompt deploy --all` in the checkout first")
    if not lines and not deployments:
        every = tuple(_line(name, there[name]) for name in sorted(there))
        if all(line.problem for line in every):
            raise BackfillError(every[0].problem)
        return every
    chosen: dict[str, Line] = {}
    for name in deployments:
        full = name if "/" in name else f"{nightly.name}/{name}"
        if full not in there:
            raise BackfillError(f"there is no deployment {full!r}: there are {', '.join(sorted(there))}")
        chosen[full] = _line(full, there[full])
    for line in lines:
        names = [name for name, deployment in sorted(there.items()) if deployment.parameters.get("line") == line]
        if not names:
            known = sorted({str(deployment.parameters.get("line") or "") for deployment in found} - {""})
            raise BackfillError(f"no deployment inspects a line {line!r}: there are {', '.join(known)}")
        if len(names) > 1:
            raise BackfillError(f"line {line!r} has several deployments, {', '.join(names)}: name one of them instead")
        chosen[names[0]] = _line(names[0], there[names[0]])
    for found_line in chosen.values():
        if found_line.problem:
            raise BackfillError(found_line.problem)
    return tuple(chosen.values())


def read_runs(line: Line, *, start: date) -> list[NightRun]:
    """Return the runs of a line's nights from a day on, oldest first."""
    now = datetime.now(UTC)
    # The run of a night starts after it; none that a schedule plans for another day is of a night that is over.
    span = FlowRunFilterExpectedStartTime(
        after_=datetime.combine(start, time(), UTC) - timedelta(days=1), before_=now + timedelta(days=2)
    )
    chosen = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[line.id]), expected_start_time=span)
    with _server() as client:
        runs = _paged(lambda offset: client.read_flow_runs(flow_run_filter=chosen, limit=PAGE, offset=offset))
    nights = (night_run(run, line, now=now) for run in sorted(runs, key=lambda run: run.expected_start_time or now))
    return [night for night in nights if night is not None]


def start_run(line: Line, planned: PlannedNight, *, config: Config, refit: bool) -> UUID:
    """Start an attempt at a night through the deployment of its line, or find it started."""
    changed: dict[str, Any] = {} if config == line.config else {"config": config.model_dump(mode="json")}
    # Not the deployment's name: the runs of one that was deleted would be found started.
    key = attempt_key(
        str(line.id), planned.night.day, fingerprint=planned.fingerprint, attempt=planned.attempt, refit=refit
    )
    with _server():
        run: Any = run_deployment(
            line.id,
            parameters={"day": planned.night.day.isoformat(), **changed, **({"refit": True} if refit else {})},
            flow_run_name=f"{nightly.name} {planned.night}",
            idempotency_key=key,
            timeout=0,
        )
    return UUID(str(run.id))


def look_up(ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
    """Return how runs stand; one that was deleted is missing.

    Raises
    ------
    NoPrefectApiError
        If the server does not answer.
    """
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(ids)))
    with _server() as client:
        runs = _paged(lambda offset: client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=offset))
    return {UUID(str(run.id)): run for run in runs}


def pool_of(run: UUID) -> str | None:
    """Return the work pool that a run takes a place of, None for one that was started by hand."""
    with _server() as client:
        return client.read_flow_run(run).work_pool_name


def _line(name: str, deployment: DeploymentResponse) -> Line:
    parameters, limit = deployment.parameters, deployment.global_concurrency_limit
    try:
        config, problem = _config(name, parameters), ""
    except BackfillError as error:
        config, problem = Config(), str(error)
    return Line(
        deployment=name,
        id=UUID(str(deployment.id)),
        name=str(parameters.get("line") or deployment.name),
        images=str(parameters.get("images") or ""),
        results=str(parameters.get("results") or ""),
        timezone=parameters.get("timezone") or "UTC",
        config=config,
        pool=deployment.work_pool_name,
        limit=limit.limit if limit and limit.active else None,
        problem=problem,
    )


def _config(name: str, parameters: Mapping[str, Any]) -> Config:
    """Return the settings of a deployment through which a night can run."""
    if not parameters.get("line"):
        raise BackfillError(f"deployment {name} names no line: set its parameter line")
    for address in ("images", "results"):
        if not parameters.get(address):
            raise BackfillError(
                f"deployment {name} has no address of its {address}: set SSDNET_{address.upper()} and deploy again"
            )
    try:
        site_zone(parameters.get("timezone") or "UTC")
        for address in ("images", "results"):
            Storage(parameters[address])
        return parse_config(parameters.get("config") or {})
    except (InvalidConfigError, AddressError) as error:
        raise BackfillError(f"the settings of deployment {name}: {error}") from error


def night_run(run: FlowRun, line: Line, *, now: datetime) -> NightRun | None:
    """Return what a run of a line's deployment tells of a night; None if it was started with settings that are none."""
    parameters, start = run.parameters, run.expected_start_time or now
    try:
        given = parameters.get("day")
        day = date.fromisoformat(str(given)[:10]) if given else day_before(start, parameters.get("timezone") or "UTC")
        fingerprint = parse_config(parameters.get("config") or {}).fingerprint()
        elsewhere = _places(parameters) != (line.name, Storage(line.images).address, Storage(line.results).address)
    except (ValueError, SsdnetError):
        return None  # It failed at once.
    return NightRun(
        id=UUID(str(run.id)),
        day=day,
        fingerprint=fingerprint,
        state=run_state(run, start=start, now=now),
        attempt=attempt_of(run.idempotency_key),
        elsewhere=elsewhere,
        refit=parameters.get("refit") is True,
    )


def _places(parameters: Mapping[str, Any]) -> tuple[str, str, str]:
    images, results = (Storage(str(parameters.get(name) or "")).address for name in ("images", "results"))
    return str(parameters.get("line")), images, results


def run_state(run: FlowRun, *, start: datetime, now: datetime) -> RunState:
    """Return how a run stands; one that its own schedule starts much later is not under way."""
    state = run.state
    if state is None or not state.is_final():
        waits = run.auto_scheduled and (state is None or state.is_scheduled()) and start > now + SOON
        return RunState.SCHEDULED if waits else RunState.RUNNING
    return RunState.COMPLETED if state.is_completed() else RunState.FAILED


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in UNAVAILABLE:
            raise
        raise NoPrefectApiError(
            f"the Prefect API at {get_current_settings().api.url} answers {error.response.status_code} "
            f"{error.response.reason_phrase}: is it behind a proxy, or does it want PREFECT_API_AUTH_STRING or "
            "PREFECT_API_KEY?"
        ) from error
    except (httpx.TransportError, RuntimeError) as error:
        # A client that cannot reach the server at its first request says so with a RuntimeError.
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, httpx.TransportError):
            raise
        raise NoPrefectApiError(
            f"the Prefect API at {get_current_settings().api.url} does not answer: {error.__cause__ or error}"
        ) from error


def _paged(read: Callable[[int], list[Row]]) -> list[Row]:
    rows: list[Row] = []
    while len(page := read(len(rows))) == PAGE:
        rows += page
    return rows + page
