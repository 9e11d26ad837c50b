"""What a Prefect server must know before it can run anything: the work pool, and the deployments of ``prefect.yaml``.

Registering again is harmless: a schedule that was switched on or off in the UI stays as it is.
"""

import json
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from infra.local.errors import LocalStackError
from infra.local.processes import Supervisor, python

WORK_POOL = "inspection"


def register(api: str, supervisor: Supervisor) -> None:
    """Register all that flow runs need with the server whose API is at ``api``."""
    if not _exists(f"{api}/work_pools/{WORK_POOL}"):
        supervisor.run(
            "making the work pool", *python("prefect", "work-pool", "create", WORK_POOL, "--type", "process")
        )
    switched = _schedules(api)
    supervisor.run("registering the deployments", *python("prefect", "--no-prompt", "deploy", "--all"))
    for name, (deployment, schedule, active) in _schedules(api).items():
        if name in switched and switched[name][2] != active:
            ask(f"{api}/deployments/{deployment}/schedules/{schedule}", {"active": switched[name][2]}, method="PATCH")


def crash_lost_runs(api: str) -> None:
    """Mark the flow runs as crashed that were at work when an earlier stack was killed.

    The server does not notice for itself, and a deployment that allows one run at a time would wait for them for ever.
    Runs that a shell started report for themselves, and are left alone.
    """
    at_work = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
    crashed = {"type": "CRASHED", "name": "Crashed", "message": "The system was stopped while this run was at work."}
    for run in ask(f"{api}/flow_runs/filter", at_work):
        if run["work_pool_name"] == WORK_POOL or run["parent_task_run_id"]:
            ask(f"{api}/flow_runs/{run['id']}/set_state", {"state": crashed})


def nightly_parameters(project: Path) -> dict[str, Any]:
    """Return the parameters of the first nightly deployment in a project's ``prefect.yaml``.

    Raises
    ------
    LocalStackError
        If there is no such file, or no nightly deployment in it.
    """
    path = project / "prefect.yaml"
    try:
        deployments = yaml.safe_load(path.read_text())["deployments"]
    except OSError as error:
        raise LocalStackError(f"cannot read {path}: `ssdnet up` works in a checkout of the project") from error
    for deployment in deployments:
        if deployment["entrypoint"].endswith(":nightly"):
            return {"deployment": deployment["name"], **deployment["parameters"]}
    raise LocalStackError(f"{path} has no deployment of the nightly flow")


def last_night(timezone: str) -> Any:
    """Return yesterday's date at the site."""
    return datetime.now(ZoneInfo(timezone)).date() - timedelta(days=1)


def ask(url: str, body: Any = None, *, method: str | None = None) -> Any:
    """Ask Prefect's API, and return its answer."""
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def _schedules(api: str) -> dict[tuple[str, str], tuple[str, str, bool]]:
    return {
        (deployment["entrypoint"] + deployment["name"], schedule["slug"] or ""): (
            deployment["id"],
            schedule["id"],
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
