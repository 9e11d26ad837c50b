"""What the three ways of running a Prefect server set, as Prefect's own settings read it."""

from datetime import timedelta

import pytest
import yaml
from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

from infra.local.endpoints import Endpoints
from infra.local.parts import StackSettings, parts
from infra.local.registration import Project


def of_one_machine(infra):
    endpoints = Endpoints(prefect=1, scheduler=2, dashboard=3, s3=4, gallery=5)
    settings = StackSettings(
        home=infra, endpoints=endpoints, images="s3://i", results="s3://r", workers=1, trial_storage=False
    )
    return parts(settings, Project(pools=(), nights=("line-1",), lines=("line-1",), timezone="UTC")).server.environment


def of_compose(infra):
    return yaml.safe_load((infra / "compose" / "compose.yaml").read_text())["services"]["prefect-server"]["environment"]


def of_kubernetes(infra):
    values = yaml.safe_load((infra / "kubernetes" / "prefect-server.values.yaml").read_text())
    return {variable["name"]: variable["value"] for variable in values["server"]["env"]}


@pytest.mark.parametrize("way", [of_one_machine, of_compose, of_kubernetes])
def test_the_server_forgets_runs_that_ended_a_year_ago(way, infra, monkeypatch):
    for name, value in way(infra).items():
        monkeypatch.setenv(name, value)
    vacuum = ServerServicesDBVacuumSettings()
    assert vacuum.enabled_vacuum_types >= {"events", "flow_runs"}
    assert vacuum.retention_period == timedelta(days=365)
