"""Registering with a real Prefect server what a user has edited there meanwhile."""

import pytest

from infra.local.processes import Supervisor
from infra.local.registration import ask, read_project, register
from tests.conftest import ROOT
from tests.prefect_server import prefect_server

pytestmark = pytest.mark.slow


def test_registered_again_a_deployment_is_as_the_file_has_it_and_what_was_lost_is_told(tmp_path):
    project = read_project(ROOT)
    with prefect_server(tmp_path / "server", SSDNET_IMAGES="/images", SSDNET_RESULTS="/results") as environment:
        api = environment["PREFECT_API_URL"]

        def registered():
            told: list[str] = []
            supervisor = Supervisor(tmp_path, folder=ROOT, environment=environment, tell=told.append)
            register(project, api, supervisor=supervisor, tell=told.append)
            found = ask(f"{api}/deployments/name/nightly/line-1")
            return told, found, f"{api}/deployments/{found['id']}"

        told, first, address = registered()
        assert not told, "nothing was there before"

        ask(address, {"parameters": first["parameters"] | {"refit": True}}, method="PATCH")
        ask(f"{address}/schedules", [{"schedule": {"cron": "0 5 * * *"}, "active": True}])
        ask(f"{address}/schedules/{first['schedules'][0]['id']}", {"active": True}, method="PATCH")
        ask(f"{api}/deployments/", {"name": "line-9", "flow_id": first["flow_id"]})

        told, second, _ = registered()
        assert second["parameters"] == first["parameters"]
        [schedule] = second["schedules"]
        assert (schedule["slug"], schedule["active"]) == ("nightly", True), "what is switched on stays so"
        changed, left = told  # And nothing of the others.
        assert "nightly/line-1" in changed
        assert '"refit": true' in changed
        assert '"cron": "0 5 * * *"' in changed
        assert "`prefect deployment delete nightly/line-9`" in left
