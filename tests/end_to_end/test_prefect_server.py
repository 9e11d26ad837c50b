"""A real Prefect server: what `pip check` does not see.

Some combinations of prefect, fastapi and sqlalchemy install cleanly and then fail at run time: flows die, or the
scheduler never creates a run.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, free_port, wait_for

pytestmark = pytest.mark.slow

PREFECT = [sys.executable, "-m", "prefect"]


@pytest.fixture(scope="module")
def server(prefect_home: Path):
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(prefect_home / "server"),
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "SSDNET_HOME": str(ROOT),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    log = (prefect_home / "server.log").open("w")
    process = subprocess.Popen(
        [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(lambda: healthy(port), what="the Prefect server", timeout=120)
        yield environment
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
            return True
    except OSError:
        return False


def ask(environment: dict[str, str], path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def prefect(environment: dict[str, str], *arguments: str) -> str:
    finished = subprocess.run([*PREFECT, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_a_deployed_schedule_makes_scheduled_runs(server):
    prefect(server, "work-pool", "create", "inspection", "--type", "process")
    prefect(server, "--no-prompt", "deploy", "--all")
    assert not ask(server, "flow_runs/filter", {})
    [deployment] = ask(server, "deployments/filter", {"deployments": {"name": {"any_": ["line-1"]}}})
    [schedule] = deployment["schedules"]
    prefect(server, "deployment", "schedule", "resume", "nightly/line-1", schedule["id"])
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    wait_for(lambda: ask(server, "flow_runs/filter", scheduled), what="a SCHEDULED run", timeout=60)
    run = ask(server, "flow_runs/filter", {**scheduled, "sort": "EXPECTED_START_TIME_ASC"})[0]
    assert run["expected_start_time"].endswith(("02:00:00Z", "01:00:00Z")), "03:00 in Madrid"


def test_the_form_of_the_settings_is_typed_and_described(server):
    [deployment] = ask(server, "deployments/filter", {"deployments": {"name": {"any_": ["line-1"]}}})
    schema = deployment["parameter_openapi_schema"]
    assert schema["properties"]["line"]["description"]
    assert schema["definitions"]["FitConfig"]["properties"]["steps"]["description"]


def test_a_command_reports_to_the_server_it_is_given(server, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "flows", "sample", tmp_path / "night", "--images", "2"], check=True, env=server
    )
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "flows", "inspect", tmp_path / "night", "--results", tmp_path / "results"),
            *("--set", "fit.steps=3", "--set", "working_size=64"),
        ],
        env=server,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    completed = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    [run] = ask(server, "flow_runs/filter", completed)
    assert run["name"] == f"inspect {tmp_path / 'night'}"
    wait_for(
        lambda: len(ask(server, "task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})) == 5,
        what="its five task runs: discover, one chunk, aggregate, report, seal",
    )
