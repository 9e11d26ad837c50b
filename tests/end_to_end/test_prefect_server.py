"""A real Prefect server: what `pip check` does not see.

Some combinations of prefect, fastapi and sqlalchemy install cleanly and then fail at run time: flows die, or the
scheduler never creates a run.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.prefect_server import ask, prefect, prefect_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(prefect_home: Path):
    with prefect_server(prefect_home / "server", PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="2") as environment:
        yield environment


def test_a_deployed_schedule_makes_scheduled_runs(server):
    for pool in ("inspection", "backfills"):
        prefect(server, "work-pool", "create", pool, "--type", "process")
    prefect(server, "--no-prompt", "deploy", "--all")
    assert not ask(server, "flow_runs/filter", {})
    [deployment] = ask(server, "deployments/filter", {"deployments": {"name": {"any_": ["line-1"]}}})
    [schedule] = deployment["schedules"]
    prefect(server, "deployment", "schedule", "resume", "nightly/line-1", schedule["id"])
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    wait_for(lambda: ask(server, "flow_runs/filter", scheduled), what="a SCHEDULED run", timeout=60)
    run = ask(server, "flow_runs/filter", {**scheduled, "sort": "EXPECTED_START_TIME_ASC"})[0]
    assert run["expected_start_time"].endswith(("02:00:00Z", "01:00:00Z")), "03:00 in Madrid"


def test_the_forms_of_all_deployments_are_typed_and_described(server):
    deployments = ask(server, "deployments/filter", {})
    assert len(deployments) == 6
    for deployment in deployments:
        schema = deployment["parameter_openapi_schema"]
        for name, field in schema["properties"].items():
            assert field.get("description"), f"{deployment['name']}: {name}"
            assert {"type", "anyOf", "allOf", "$ref"} & field.keys(), f"{deployment['name']}: {name}"
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
