"""The lines that are deployed at the Prefect server: a deployment of the nightly flow for each."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse

from flows.backfill_plan import BackfillError
from flows.line import Line
from flows.nightly import nightly
from flows.parameters import require_address
from flows.prefect_api import PAGE_SIZE, paged, server
from ssdnet_core.config import Config, parse_config
from ssdnet_core.errors import InvalidConfigError
from tasks.address import AddressError
from tasks.nights import DEFAULT_ZONE, site_zone
from tasks.storage import Storage


def find_lines(lines: Sequence[str] = (), deployments: Sequence[str] = ()) -> tuple[Line, ...]:
    """Return the deployments of the nightly flow: all, or those named by their line or their own name.

    Raises
    ------
    BackfillError
        If there is no such line or deployment, a line has several deployments, or no night can run through one that
        was named, or else through any.
    """
    with server() as client:
        found = paged(
            lambda offset: client.read_deployments(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[nightly.name])), limit=PAGE_SIZE, offset=offset
            )
        )
    there = {f"{nightly.name}/{deployment.name}": deployment for deployment in found}
    if not there:
        raise BackfillError("no line is deployed: run `prefect --no-prompt deploy --all` in the checkout first")
    if not lines and not deployments:
        every = tuple(line_of(name, there[name]) for name in sorted(there))
        if all(line.problem for line in every):
            raise BackfillError(every[0].problem)
        return every
    chosen: dict[str, Line] = {}
    for name in deployments:
        full = name if "/" in name else f"{nightly.name}/{name}"
        if full not in there:
            raise BackfillError(f"there is no deployment {full!r}: there are {', '.join(sorted(there))}")
        chosen[full] = line_of(full, there[full])
    for line in lines:
        names = [name for name, deployment in sorted(there.items()) if deployment.parameters.get("line") == line]
        if not names:
            known = sorted({str(deployment.parameters.get("line") or "") for deployment in found} - {""})
            raise BackfillError(f"no deployment inspects a line {line!r}: there are {', '.join(known)}")
        if len(names) > 1:
            raise BackfillError(f"line {line!r} has several deployments, {', '.join(names)}: name one of them instead")
        chosen[names[0]] = line_of(names[0], there[names[0]])
    for found_line in chosen.values():
        if found_line.problem:
            raise BackfillError(found_line.problem)
    return tuple(chosen.values())


def line_of(name: str, deployment: DeploymentResponse) -> Line:
    """Return the line that a deployment inspects, with what is wrong if no night can run through it."""
    parameters, limit = deployment.parameters, deployment.global_concurrency_limit
    try:
        config, problem = deployed_config(name, parameters), ""
    except BackfillError as error:
        config, problem = Config(), str(error)
    return Line(
        deployment=name,
        id=deployment.id,
        name=str(parameters.get("line") or deployment.name),
        images=str(parameters.get("images") or ""),
        results=str(parameters.get("results") or ""),
        timezone=parameters.get("timezone") or DEFAULT_ZONE,
        config=config,
        pool=deployment.work_pool_name,
        limit=limit.limit if limit and limit.active else None,
        problem=problem,
    )


def deployed_config(name: str, parameters: Mapping[str, Any]) -> Config:
    """Return the method's settings among the parameters of a deployment.

    Raises
    ------
    BackfillError
        If no night can run with these parameters.
    """
    if not parameters.get("line"):
        raise BackfillError(f"deployment {name} names no line: set its parameter line")
    if unknown := sorted(parameters.keys() - signature(nightly.fn).parameters.keys()):
        # Prefect takes them, and each run then crashes before it begins.
        raise BackfillError(
            f"deployment {name} has a parameter {unknown[0]}, which the flow does not know: correct its name in "
            "prefect.yaml, or put a setting of the method under config, and deploy again"
        )
    try:
        site_zone(parameters.get("timezone"))
        for address in ("images", "results"):
            require_address(address, parameters.get(address))
            Storage(parameters[address])
        return parse_config(parameters.get("config") or {})
    except (InvalidConfigError, AddressError) as error:
        raise BackfillError(f"the settings of deployment {name}: {error}") from error
