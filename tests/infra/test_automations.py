import pytest
import typer
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from infra.automations import main
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


@pytest.mark.parametrize("hours", ["-1", "0"])
def test_a_night_that_is_missing_before_it_can_be_there_is_wrong_usage(command, hours):
    finished = command("--hours", hours)
    assert finished.exit_code == 2
    assert "--hours" in finished.stderr
