from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import typer
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows import events
from infra.automations import automations, main, register
from tests.conftest import free_port


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


@pytest.fixture
def interrupted():
    """A client of a server that has the first two automations only."""
    there = {one.name: SimpleNamespace(id=one.name) for one in automations(hours=1, idle_hours=1)[:2]}
    client = Mock()
    client.read_automations_by_name.side_effect = lambda name: [there[name]] if name in there else []
    return client, set(there)


def test_what_an_interrupted_registration_left_out_is_made_up_for_and_nothing_else_changed(interrupted):
    client, there = interrupted
    wanted = automations(hours=26, idle_hours=98)
    registered = register(client, wanted, keep=True)
    created = [call.args[0] for call in client.create_automation.call_args_list]
    assert created == registered == [one for one in wanted if one.name not in there]
    client.update_automation.assert_not_called()
    client.delete_automation.assert_not_called()


def test_registering_without_keep_changes_what_is_there(interrupted):
    client, there = interrupted
    assert register(client, automations(hours=26, idle_hours=98)) == automations(hours=26, idle_hours=98)
    assert {call.args[0] for call in client.update_automation.call_args_list} == there
