import pytest

from infra.local.errors import LocalStackError
from infra.local.registration import read_project
from tests.conftest import ROOT


def test_the_projects_own_deployments_name_a_line_its_site_and_their_pools():
    project = read_project(ROOT)
    assert (project.nightly, project.lines, project.timezone) == ("line-1", ("line-1", "line-2"), "Europe/Madrid")
    assert "inspection" in project.pools


def test_a_folder_without_deployments_is_named(tmp_path):
    with pytest.raises(LocalStackError, match=f"{tmp_path}.*checkout"):
        read_project(tmp_path)


def test_deployments_without_a_night_are_named(tmp_path):
    (tmp_path / "prefect.yaml").write_text("deployments: [{name: a, entrypoint: 'f.py:inspect', work_pool: {name: p}}]")
    with pytest.raises(LocalStackError, match="no deployment of the nightly flow"):
        read_project(tmp_path)
