"""What a Prefect server must know before it can run anything: the work pools and the deployments of ``prefect.yaml``.

Registering again makes a deployment what the file says: parameters, job variables, limits and times that were edited
in the UI are lost, as are schedules added there, and each loss is reported. What stays is whether a schedule is
switched on.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from infra.local.errors import LocalStackError
from infra.local.processes import Supervisor, python
from ssdnet_core.errors import InvalidConfigError
from tasks.nights import DEFAULT_ZONE, day_before, site_zone

NIGHTLY = "nightly"
BUSY_TIMEOUT = 60.0
PAGE_SIZE = 200
"""Most that the server returns at once."""
AT_WORK = ("PENDING", "RUNNING", "CANCELLING")


@dataclass(frozen=True, kw_only=True)
class Project:
    """What ``prefect.yaml`` deploys.

    Attributes
    ----------
    pools
        The work pools that its deployments name.
    nights, lines
        Names and lines of all deployments of the nightly flow, the first one's first.
    timezone
        Of the first one's site.
    """

    pools: tuple[str, ...]
    nights: tuple[str, ...]
    lines: tuple[str, ...]
    timezone: str

    @property
    def nightly(self) -> str:
        """Name of the first deployment of the nightly flow."""
        return self.nights[0]

    @property
    def last_night(self) -> date:
        """Yesterday at the site."""
        return day_before(datetime.now(UTC), self.timezone)


def read_project(folder: Path) -> Project:
    """Read a project's ``prefect.yaml``.

    Raises
    ------
    LocalStackError
        If there is none, if it has no nightly deployment, or if an entry is missing or wrong, which is named.
    """
    path = folder / "prefect.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise LocalStackError(f"cannot read {path}: `ssdnet up` works in a checkout of the project") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise LocalStackError(f"{path} is no YAML: {error}") from error
    deployments = _entry(content, "deployments", file=path) or []
    nightly = [entry for entry in deployments if _entry(entry, "entrypoint", file=path).endswith(f":{NIGHTLY}")]
    if not nightly:
        raise LocalStackError(f"{path} has no deployment of the nightly flow")
    timezone = _entry(nightly[0], "parameters", file=path).get("timezone") or DEFAULT_ZONE
    try:
        site_zone(timezone)
    except InvalidConfigError as error:
        raise LocalStackError(f"{path}: {error}") from error
    return Project(
        pools=tuple(dict.fromkeys(_entry(entry, "work_pool", "name", file=path) for entry in deployments)),
        nights=tuple(_entry(entry, "name", file=path) for entry in nightly),
        lines=tuple(dict.fromkeys(_entry(entry, "parameters", "line", file=path) for entry in nightly)),
        timezone=timezone,
    )


def _entry(tree: Any, *names: str, file: Path) -> Any:
    found = tree
    for name in names:
        if not isinstance(found, dict) or name not in found:
            place = f", deployment {tree['name']!r}" if isinstance(tree, dict) and "name" in tree else ""
            raise LocalStackError(f"{file}{place}: the entry {'.'.join(names)} is missing")
        found = found[name]
    return found


def register(project: Project, api: str, *, supervisor: Supervisor, tell: Callable[[str], None]) -> None:
    """Register all that flow runs need with the server whose API is at ``api``, and tell what was otherwise there."""
    for pool in project.pools:
        if not _exists(f"{api}/work_pools/{pool}"):
            # Its job template comes from the pool's first worker.
            ask(f"{api}/work_pools/", {"name": pool, "type": "process"})
    before = _deployments(api)
    supervisor.run("registering the deployments", *python("prefect", "--no-prompt", "deploy", "--all"))
    after = _deployments(api)
    switched = _switches(before)
    for (name, slug), (schedule, active) in _switches(after).items():
        _, wanted = switched.get((name, slug), (schedule, active))
        if active != wanted:
            ask(f"{api}/deployments/{after[name]['id']}/schedules/{schedule}", {"active": wanted}, method="PATCH")
    for message in (*overwritten(before, after), *left_over(project, after)):
        tell(message)
    # Those that were switched off or given a notification stay so.
    supervisor.run("registering the automations", *python("infra.automations", "--keep"))


def overwritten(before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return a message for each deployment that was not at the server as ``prefect.yaml`` has it, with what it was."""
    messages = []
    for name in sorted(before.keys() & after.keys()):
        old, new = _settings(before[name]), _settings(after[name])
        lost = "; ".join(f"{what} {json.dumps(old[what])}" for what in old if old[what] != new[what])
        if lost:
            messages.append(f"{name} is registered as prefect.yaml has it; the server had {lost}")
    return messages


def left_over(project: Project, deployments: Mapping[str, object]) -> list[str]:
    """Return a message for each nightly deployment at the server that ``prefect.yaml`` does not have (any more)."""
    left = deployments.keys() - {f"{NIGHTLY}/{name}" for name in project.nights}
    return [
        f"the server has {name}, which prefect.yaml has not, and goes on running it if its schedule is on: "
        f"`prefect deployment delete {name}` removes it"
        for name in sorted(left)
        if name.startswith(f"{NIGHTLY}/")
    ]


def _settings(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return what the UI lets a user edit of a deployment, without the switches of its schedules."""
    timed = [(schedule["slug"] or "", schedule["schedule"]) for schedule in deployment["schedules"]]
    return {
        "parameters": deployment["parameters"],
        "job variables": deployment["job_variables"],
        "limit": (deployment["global_concurrency_limit"] or {}).get("limit"),
        "schedules": [times for _, times in sorted(timed, key=str)],
    }


def crash_lost_runs(api: str) -> None:
    """Mark the flow runs as crashed that were at work when an earlier stack was killed; as cancelled if that had begun.

    The server does not notice by itself, and a deployment that allows one run at a time would wait for them for ever.
    Runs that a shell started report for themselves, and are left alone.
    """
    message = "The system was stopped while this run was at work."
    crashed = {"type": "CRASHED", "name": "Crashed", "message": message}
    cancelled = {"type": "CANCELLED", "name": "Cancelled", "message": message}
    # All of them first: each that is marked would move those after it to an earlier page.
    for run in _rows(f"{api}/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": AT_WORK}}}}):
        if run["work_pool_name"] or run["parent_task_run_id"]:
            # Of what it is cancelling the server rejects any other end.
            ended = cancelled if run["state_type"] == "CANCELLING" else crashed
            ask(f"{api}/flow_runs/{run['id']}/set_state", {"state": ended})


def ask(url: str, body: Any = None, *, method: str | None = None) -> Any:
    """Ask Prefect's API, and return its answer.

    Raises
    ------
    LocalStackError
        If the server does not answer, or not to the end.
    HTTPError
        If it refuses.
    """
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            # The database was busy and nothing has happened; Prefect's own client asks again, too.
            if error.code != 503 or time.monotonic() > deadline:
                raise
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            raise LocalStackError(
                f"Prefect's server does not answer at {url}: {error}: look at logs/Prefect-server.log of the system"
            ) from error
        time.sleep(0.5)


def _rows(url: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all rows that a filter finds."""
    rows: list[dict[str, Any]] = []
    while len(page := ask(url, {**wanted, "limit": PAGE_SIZE, "offset": len(rows)})) == PAGE_SIZE:
        rows += page
    return rows + page


def _deployments(api: str) -> dict[str, dict[str, Any]]:
    """Return the server's deployments, by the names of flow and deployment."""
    found = _rows(f"{api}/deployments/filter", {})
    wanted = {"flows": {"id": {"any_": sorted({deployment["flow_id"] for deployment in found})}}}
    flows = {flow["id"]: flow["name"] for flow in _rows(f"{api}/flows/filter", wanted)} if found else {}
    return {f"{flows[deployment['flow_id']]}/{deployment['name']}": deployment for deployment in found}


def _switches(deployments: Mapping[str, dict[str, Any]]) -> dict[tuple[str, str], tuple[str, bool]]:
    """Return identity and switch of each schedule, by its deployment and its name."""
    return {
        (name, schedule["slug"] or ""): (schedule["id"], schedule["active"])
        for name, deployment in deployments.items()
        for schedule in deployment["schedules"]
    }


def _exists(url: str) -> bool:
    try:
        ask(url)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True
