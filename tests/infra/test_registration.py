import inspect

import pytest

from flows.nightly import nightly
from infra.local.errors import LocalStackError
from infra.local.registration import left_over, overwritten, read_project
from tests.conftest import ROOT


def test_the_projects_own_deployments_name_a_line_its_site_and_their_pools():
    project = read_project(ROOT)
    assert (project.nightly, project.lines, project.timezone) == ("line-1", ("line-1", "line-2"), "Europe/Madrid")
    assert project.nights == ("line-1", "line-2")
    assert "inspection" in project.pools


def test_a_folder_without_deployments_is_named(tmp_path):
    with pytest.raises(LocalStackError, match=f"{tmp_path}.*checkout"):
        read_project(tmp_path)


def test_deployments_without_a_night_are_named(tmp_path):
    (tmp_path / "prefect.yaml").write_text("deployments: [{name: a, entrypoint: 'f.py:inspect', work_pool: {name: p}}]")
    with pytest.raises(LocalStackError, match="no deployment of the nightly flow"):
        read_project(tmp_path)


WHOLE = """
deployments:
  - name: line-1
    entrypoint: flows/nightly.py:nightly
    parameters: {line: line-1, timezone: Europe/Madrid}
    work_pool: {name: inspection}
"""


@pytest.mark.parametrize(
    ("entry", "changed", "named"),
    [
        ("    work_pool", "   work_pool", r"no YAML.*line 6"),
        ("deployments:", "deploy:", "entry deployments is missing"),
        ("entrypoint:", "entry:", "deployment 'line-1': the entry entrypoint is missing"),
        ("line: line-1,", "", r"deployment 'line-1': the entry parameters\.line is missing"),
        ("    work_pool: {name: inspection}", "", r"the entry work_pool\.name is missing"),
        ("Europe/Madrid", "Europe/Madrit", "no time zone 'Europe/Madrit'"),
        (WHOLE, "", "entry deployments is missing"),
    ],
)
def test_what_is_wrong_with_the_deployments_is_said_with_the_file_and_the_entry(tmp_path, entry, changed, named):
    path = tmp_path / "prefect.yaml"
    path.write_text(WHOLE.replace(entry, changed))
    with pytest.raises(LocalStackError, match=rf"(?s)^{path}.*{named}"):
        read_project(tmp_path)


def test_a_site_that_names_no_time_zone_has_the_flows_own(tmp_path):
    (tmp_path / "prefect.yaml").write_text(WHOLE.replace(", timezone: Europe/Madrid", ""))
    assert read_project(tmp_path).timezone == inspect.signature(nightly.fn).parameters["timezone"].default == "UTC"


CRON = {"cron": "0 3 * * *", "timezone": "Europe/Madrid", "day_or": True}


def deployment(**changed):
    """A deployment as the server tells of it."""
    plain = {
        "id": "d",
        "parameters": {"line": "line-1"},
        "job_variables": {},
        "global_concurrency_limit": {"limit": 1, "active_slots": 0},
        "schedules": [{"id": "s", "slug": "nightly", "schedule": CRON, "active": False}],
    }
    return plain | changed


@pytest.mark.parametrize(
    ("edited", "told"),
    [
        ({"parameters": {"line": "line-1", "refit": True}}, 'parameters {"line": "line-1", "refit": true}'),
        ({"job_variables": {"env": {"A": "b"}}}, 'job variables {"env": {"A": "b"}}'),
        ({"global_concurrency_limit": None}, "limit null"),
        ({"schedules": [{"slug": None, "schedule": {"cron": "0 5 * * *"}}]}, 'schedules [{"cron": "0 5 * * *"}]'),
    ],
)
def test_what_a_user_edited_at_the_server_is_told_when_the_file_takes_its_place(edited, told):
    before, after = {"nightly/line-1": deployment(**edited)}, {"nightly/line-1": deployment()}
    [message] = overwritten(before, after)
    assert message.startswith("nightly/line-1 ")
    assert message.endswith(f"the server had {told}")


def test_deployments_that_are_new_equal_or_switched_on_are_not_told_of():
    switched = [{"id": "other", "slug": "nightly", "schedule": CRON, "active": True}]
    before = {"nightly/line-1": deployment(schedules=switched)}
    assert not overwritten(before, {"nightly/line-1": deployment(), "nightly/line-2": deployment()})


def test_nightly_deployments_that_the_file_has_not_are_named_with_the_command_that_removes_them():
    there = ("nightly/line-1", "nightly/line-9", "inspect/by-somebody-else")
    [message] = left_over(read_project(ROOT), dict.fromkeys(there))
    assert "`prefect deployment delete nightly/line-9`" in message
