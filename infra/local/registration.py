"""What a Prefect server must know before it can run anything: the work pools and the deployments of ``prefect.yaml``.

Registering again is harmless: a schedule that was switched on or off in the UI stays as it is.
"""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from infra.local.errors import LocalStackError
from infra.local.processes import Supervisor, python
from ssdnet_core.errors import InvalidConfigError
from tasks.nights import day_before, site_zone

BUSY_TIMEOUT = 60.0
AT_WORK = ("PENDING", "RUNNING", "CANCELLING")


@dataclass(frozen=True)
class Project:
    """What ``prefect.yaml`` deploys.

    Attributes
    ----------
    pools
        The work pools that its deployments name.
    nightly, timezone
        Name of the first deployment of the nightly flow, and the time zone of its site.
    lines
        Of all deployments of the nightly flow, the first one's first.
    """

    pools: tuple[str, ...]
    nightly: str
    lines: tuple[str, ...]
    timezone: str

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
    nightly = [entry for entry in deployments if _entry(entry, "entrypoint", file=path).endswith(":nightly")]
    if not nightly:
        raise LocalStackError(f"{path} has no deployment of the nightly flow")
    # As the flow has it.
    timezone = _entry(nightly[0], "parameters", file=path).get("timezone", "UTC")
    try:
        site_zone(timezone)
    except InvalidConfigError as error:
        raise LocalStackError(f"{path}: {error}") from error
    return Project(
        pools=tuple(dict.fromkeys(_entry(entry, "work_pool", "name", file=path) for entry in deployments)),
        nightly=_entry(nightly[0], "name", file=path),
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


def register(project: Project, api: str, *, supervisor: Supervisor) -> None:
    """Register all that flow runs need with the server whose API is at ``api``."""
    for pool in project.pools:
        if not _exists(f"{api}/work_pools/{pool}"):
            # Its job template comes from the pool's first worker.
            ask(f"{api}/work_pools/", {"name": pool, "type": "process"})
    switched = _schedules(api)
    supervisor.run("registering the deployments", *python("prefect", "--no-prompt", "deploy", "--all"))
    for name, (address, active) in _schedules(api).items():
        _, wanted = switched.get(name, (address, active))
        if active != wanted:
            ask(address, {"active": wanted}, method="PATCH")
    # Those that were switched off or given a notification stay so.
    supervisor.run("registering the automations", *python("infra.automations", "--keep"))


def crash_lost_runs(api: str) -> None:
    """Mark the flow runs as crashed that were at work when an earlier stack was killed.

    The server does not notice by itself, and a deployment that allows one run at a time would wait for them for ever.
    Runs that a shell started report for themselves, and are left alone.
    """
    crashed = {"type": "CRASHED", "name": "Crashed", "message": "The system was stopped while this run was at work."}
    for run in ask(f"{api}/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": AT_WORK}}}}):
        if run["work_pool_name"] or run["parent_task_run_id"]:
            ask(f"{api}/flow_runs/{run['id']}/set_state", {"state": crashed})


def ask(url: str, body: Any = None, *, method: str | None = None) -> Any:
    """Ask Prefect's API, and return its answer."""
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
        time.sleep(0.5)


def _schedules(api: str) -> dict[tuple[str, str, str], tuple[str, bool]]:
    """Return address and switch of each schedule, by its deployment and its name."""
    return {
        (deployment["flow_id"], deployment["name"], schedule["slug"] or ""): (
            f"{api}/deployments/{deployment['id']}/schedules/{schedule['id']}",
            schedule["active"],
        )
        for deployment in ask(f"{api}/deployments/filter", {})
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
