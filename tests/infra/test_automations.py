import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from uuid import uuid4

import pytest
import typer
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows import events
from infra.automations import automations, main, register
from tests.conftest import free_port
from tests.flows.flow_runs import api_served_by


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_without_the_address_of_a_server_prefect_starts_none_of_its_own_to_register_at(command):
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        finished = command()
    assert finished.exit_code == 1
    assert "to register the automations a Prefect server is needed" in finished.stderr


def test_a_server_that_does_not_answer_is_named(command):
    address = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: address}):
        finished = command()
    assert finished.exit_code == 1
    assert f"{address} does not answer" in finished.stderr


def test_what_is_no_address_is_told_though_prefect_cannot_read_its_settings(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://[::1/api")
    finished = subprocess.run([sys.executable, "-m", "infra.automations"], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "PREFECT_API_URL is 'http://[::1/api', which is no address (Invalid IPv6 URL)" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("option", ["--hours", "--idle-hours"])
@pytest.mark.parametrize("hours", ["-1", "0", "1e12"])
def test_a_night_that_is_missing_before_it_can_be_there_or_never_is_wrong_usage(command, option, hours):
    finished = command(option, hours)
    assert finished.exit_code == 2
    assert option in finished.stderr


def triggers(**options):
    return {
        one.name.removeprefix("SSDnet: "): one.trigger
        for one in automations(**{"hours": 26, "idle_hours": 98} | options)
    }


def test_a_line_that_stands_still_every_night_is_not_missing_but_idle():
    missing, idle = (triggers()[name] for name in ("missing night", "idle line"))
    assert events.STOOD_STILL in missing.expect
    assert idle.expect == {events.UP_TO_DATE}
    assert missing.match == idle.match


def test_a_line_that_rests_for_long_alarms_once():
    assert triggers()["idle line"].after == {events.UP_TO_DATE, events.WATCHED}


def test_a_line_is_idle_after_the_hours_that_were_asked_for():
    assert triggers(idle_hours=200)["idle line"].within == timedelta(hours=200)


def test_a_run_of_any_command_is_watched_for_its_death_and_only_a_night_alarms_by_being_late_or_failing():
    flows = {name: trigger.match_related.root for name, trigger in triggers().items() if trigger.match_related.root}
    assert {related["prefect.resource.role"] for related in flows.values()} == {"flow"}
    assert {name: related["prefect.resource.name"] for name, related in flows.items()} == {
        "crashed run": ["inspect", "evaluate", "nightly", "backfill"],
        "late night": ["nightly"],
        "failed night": ["nightly"],
    }


def test_a_run_that_waits_to_be_started_anew_is_not_taken_for_dead():
    assert "prefect.flow-run.AwaitingRetry" in triggers()["crashed run"].expect


@dataclass
class AutomationsApi:
    """A server's automations, the one that was changed last first, and what was done to them."""

    there: dict[str, AutomationCore]
    done: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serving(api):
    """Give a client of a server with these automations, over real HTTP connections."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(404, None)  # As a server does that knows no CSRF tokens.

        def do_POST(self):
            body = self._body()
            if not self.path.endswith("/filter"):
                identity = str(uuid4())
                self._changed("created", identity, body)
                return
            names = body["automations"]["name"]["any_"]
            found = {identity: one for identity, one in api.there.items() if one.name in names}
            self._answer(200, [{**one.model_dump(mode="json"), "id": identity} for identity, one in found.items()])

        def do_PUT(self):
            self._changed("changed", self.path.rpartition("/")[2], self._body())

        def do_DELETE(self):
            identity = self.path.rpartition("/")[2]
            api.done.append(("deleted", api.there.pop(identity).name))
            self._answer(204, None)

        def _body(self):
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def _changed(self, what, identity, body):
            api.there[identity] = AutomationCore.model_validate(body)
            api.done.append((what, body["name"]))
            self._answer(200, {**body, "id": identity})

        def _answer(self, status, content):
            body = b"" if status == 204 else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with api_served_by(Answer), get_client(sync_client=True) as client:
        yield client


def first_two(**options):
    return {str(uuid4()): one for one in automations(**{"hours": 1, "idle_hours": 1} | options)[:2]}


def test_what_an_interrupted_registration_left_out_is_made_up_for_and_nothing_else_changed():
    api, wanted = AutomationsApi(first_two()), automations(hours=26, idle_hours=98)
    before = dict(api.there)
    with serving(api) as client:
        registered = register(client, wanted, keep=True)
    assert registered == wanted[2:]
    assert api.done == [("created", one.name) for one in wanted[2:]]
    assert before.items() <= api.there.items()


def test_registering_without_keep_changes_what_is_there():
    api, wanted = AutomationsApi(first_two()), automations(hours=26, idle_hours=98)
    with serving(api) as client:
        assert register(client, wanted) == wanted
    assert api.done == [("changed" if number < 2 else "created", one.name) for number, one in enumerate(wanted)]
    assert list(api.there.values()) == wanted


def test_of_automations_of_one_name_the_last_changed_stays_and_the_others_are_deleted():
    doubled = first_two() | first_two(hours=2) | first_two(hours=3)
    api, wanted = AutomationsApi(dict(doubled)), automations(hours=26, idle_hours=98)
    with serving(api) as client:
        register(client, wanted)
    assert [api.there[identity] for identity in list(doubled)[:2]] == wanted[:2]
    assert sorted(one.name for one in api.there.values()) == sorted(one.name for one in wanted)
    assert [what for what, _ in api.done].count("deleted") == 4


def test_with_keep_what_a_user_has_of_one_name_is_left_alone():
    api = AutomationsApi(first_two() | first_two(hours=2))
    before = dict(api.there)
    with serving(api) as client:
        register(client, automations(hours=26, idle_hours=98), keep=True)
    assert before.items() <= api.there.items()
