import inspect
import json
import urllib.error
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import pytest

import infra.local.registration
from flows.nightly import nightly
from infra.local.errors import LocalStackError
from infra.local.registration import (
    BUSY_TIMEOUT,
    PAGE_SIZE,
    Project,
    ask,
    crash_lost_runs,
    left_over,
    overwritten,
    read_project,
    register,
)
from tests.conftest import ROOT
from tests.http_server import served_by


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


@dataclass
class Api:
    """A server that has rows of each kind, returns no more of them at once than Prefect's, and is busy for a while."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    busy: int = 0
    status: int = 503
    asked: list[tuple[str, Any]] = field(default_factory=list)


@contextmanager
def serving(api):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer({})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.asked.append((self.path, body))
            kind, _, what = self.path.removeprefix("/").partition("/")
            if what != "filter":
                self._answer({})
                return
            first = body.get("offset", 0)
            self._answer(api.rows[kind][first : first + min(PAGE_SIZE, body.get("limit", PAGE_SIZE))])

        def _answer(self, content):
            body = json.dumps(content).encode()
            self.send_response(api.status if api.busy else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            api.busy = max(0, api.busy - 1)

    with served_by(Answer) as address:
        yield address


def test_a_server_that_is_busy_is_asked_again():
    with serving(Api({"flows": [{"id": "f"}]}, busy=2)) as address:
        assert ask(f"{address}/flows/filter", {}) == [{"id": "f"}]


def test_a_server_that_stays_busy_is_asked_for_a_minute(monkeypatch):
    now = iter(range(0, 10_000, 20))
    clock = SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _: None)
    monkeypatch.setattr(infra.local.registration, "time", clock)
    api = Api({"flows": []}, busy=1000)
    with serving(api) as address, pytest.raises(urllib.error.HTTPError, match="503"):
        ask(f"{address}/flows/filter", {})
    assert len(api.asked) == BUSY_TIMEOUT // 20 + 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_server_that_breaks_its_answer_off_is_named(begun):
    class Breaks(BaseHTTPRequestHandler):
        def do_GET(self):
            if begun:
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b'{"a": ')
            self.close_connection = True

    with served_by(Breaks) as address, pytest.raises(LocalStackError, match=f"does not answer at {address}"):
        ask(address)


def test_what_a_server_refuses_is_not_asked_again():
    api = Api({"flows": []}, busy=1, status=500)
    with serving(api) as address, pytest.raises(urllib.error.HTTPError, match="500"):
        ask(f"{address}/flows/filter", {})
    assert len(api.asked) == 1


def run_at_work(number, *, pool="inspection", parent=None):
    return {"id": f"run-{number}", "state_type": "RUNNING", "work_pool_name": pool, "parent_task_run_id": parent}


def test_all_lost_runs_are_marked_however_many_and_those_of_a_shell_are_left_alone():
    runs = [
        run_at_work(number, pool=None if number % 100 == 7 else "inspection") for number in range(2 * PAGE_SIZE + 5)
    ]
    part, cancelled = (
        run_at_work("part", pool=None, parent="task"),
        run_at_work("cancelled") | {"state_type": "CANCELLING"},
    )
    api = Api({"flow_runs": [*runs, part, cancelled]})
    with serving(api) as address:
        crash_lost_runs(address)
    marked = [(path.split("/")[2], body["state"]["type"]) for path, body in api.asked if "state" in body]
    lost = [run["id"] for run in (*runs, part) if run["work_pool_name"] or run is part]
    assert marked == [*((run, "CRASHED") for run in lost), ("run-cancelled", "CANCELLED")]


@pytest.mark.parametrize("count", [PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1])
def test_a_deployment_that_the_file_has_not_is_named_wherever_it_stands_in_the_servers_list(count):
    there = [deployment(id=str(number), flow_id="f", name=f"line-{number}") for number in range(count)]
    api = Api({"deployments": there, "flows": [{"id": "f", "name": "nightly"}]})
    names = tuple(one["name"] for one in there[:-1])
    project = Project(pools=("inspection",), nights=names, lines=names, timezone="UTC")
    told = []
    with serving(api) as address:
        register(project, address, supervisor=SimpleNamespace(run=lambda *_: None), tell=told.append)
    assert len(told) == 1
    assert f"nightly/line-{count - 1}" in told[0]
