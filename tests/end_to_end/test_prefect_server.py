"""A real Prefect server: what `pip check` does not see.

Some combinations of prefect, fastapi and sqlalchemy install cleanly and then fail at run time: flows die, or the
scheduler never creates a run.
"""

import subprocess
import sys

import pytest

from infra.local.processes import Supervisor
from infra.local.registration import crash_lost_runs, read_project, register
from tests.conftest import ROOT, wait_for
from tests.prefect_server import ask, prefect, prefect_server

pytestmark = pytest.mark.slow


def registered(environment, folder):
    """Register what prefect.yaml has, and return what is told of it."""
    told: list[str] = []
    supervisor = Supervisor(folder, folder=ROOT, environment=environment, tell=told.append)
    register(read_project(ROOT), environment["PREFECT_API_URL"], supervisor=supervisor, tell=told.append)
    return told


@pytest.fixture(scope="module")
def server(tmp_path_factory, database):
    folder = tmp_path_factory.mktemp("server")
    settings = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}
    places = {"SSDNET_IMAGES": "/images", "SSDNET_RESULTS": "/results"}
    with prefect_server(database(folder / "home"), **settings, **places) as environment:
        assert not registered(environment, folder), "nothing was there before"
        yield environment


def test_a_deployed_schedule_makes_scheduled_runs(server):
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


def test_no_run_that_was_lost_stays_at_work_not_even_one_that_was_being_cancelled(server):
    [deployment] = ask(server, "deployments/filter", {"deployments": {"name": {"any_": ["line-2"]}}})
    lost = {}
    for ways in (("PENDING",), ("PENDING", "RUNNING"), ("PENDING", "RUNNING", "CANCELLING")):
        run = ask(server, f"deployments/{deployment['id']}/create_flow_run", {"parameters": deployment["parameters"]})
        for state in ways:
            ask(server, f"flow_runs/{run['id']}/set_state", {"state": {"type": state}, "force": True})
        lost[run["id"]] = ways[-1]
    crash_lost_runs(server["PREFECT_API_URL"])
    found = ask(server, "flow_runs/filter", {"flow_runs": {"id": {"any_": list(lost)}}})
    assert {lost[run["id"]]: run["state_type"] for run in found} == {
        "PENDING": "CRASHED",
        "RUNNING": "CRASHED",
        "CANCELLING": "CANCELLED",
    }


def test_a_command_reports_to_the_server_it_is_given(server, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "flows", "sample", tmp_path / "night", "--images", "2"], check=True, env=server
    )
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "flows", "inspect", tmp_path / "night", "--results", tmp_path / "results"),
            *("--workers", "1", "--set", "fit.steps=3", "--set", "working_size=64"),
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


def test_a_command_whose_server_dies_while_it_runs_still_says_what_it_sealed(tmp_path, database):
    subprocess.run([sys.executable, "-m", "flows", "sample", tmp_path / "night", "--images", "2"], check=True)
    with prefect_server(database(tmp_path / "home")) as environment:
        command = subprocess.Popen(
            [
                *(sys.executable, "-m", "flows", "inspect", tmp_path / "night", "--results", tmp_path / "results"),
                *("--batch", "night", "--workers", "1", "--set", "fit.steps=3", "--set", "working_size=64"),
            ],
            # No waiting: the server does not come back.
            env={**environment, "PREFECT_CLIENT_MAX_RETRIES": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: (tmp_path / "results" / "night" / "manifest.json").exists(), what="the batch")
    told, warned = command.communicate(timeout=300)
    assert command.returncode == 0, warned
    assert "Highest scores" in told
    assert "the batch is sealed, but its run's page does not tell so: the Prefect API" in warned
    assert "Traceback" not in warned


def test_registered_again_a_deployment_is_as_the_file_has_it_and_what_was_lost_is_told(server, tmp_path):
    def line_1():
        [found] = ask(server, "deployments/filter", {"deployments": {"name": {"any_": ["line-1"]}}})
        return found

    first = line_1()
    address = f"deployments/{first['id']}"
    ask(server, address, {"parameters": first["parameters"] | {"refit": True}}, method="PATCH")
    ask(server, f"{address}/schedules", [{"schedule": {"cron": "0 5 * * *"}, "active": True}])
    ask(server, f"{address}/schedules/{first['schedules'][0]['id']}", {"active": True}, method="PATCH")
    ask(server, "deployments/", {"name": "line-9", "flow_id": first["flow_id"]})

    changed, left = registered(server, tmp_path)  # And nothing of the others.
    second = line_1()
    assert second["parameters"] == first["parameters"]
    [schedule] = second["schedules"]
    assert (schedule["slug"], schedule["active"]) == ("nightly", True), "what is switched on stays so"
    assert "nightly/line-1" in changed
    assert '"refit": true' in changed
    assert '"cron": "0 5 * * *"' in changed
    assert "`prefect deployment delete nightly/line-9`" in left
