import os

import pytest

from flows.embedded import COMMAND_SETTINGS, OWN_SERVER_SETTINGS
from tests.prefect_server import prefect_server, provide_database

NOT_NEEDED = ("SCHEDULER", "LATE_RUNS", "CANCELLATION_CLEANUP", "FOREMAN", "PAUSE_EXPIRATIONS", "TRIGGERS")
"""Of a server that only takes what a command tells it: they look around every few seconds."""


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """Give a home a Prefect database that is there already; tests/flows/test_embedded.py makes fresh ones."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def provide(home):
        provide_database(home, shared=shared)
        return home

    return provide


@pytest.fixture(scope="session", autouse=True)
def commands_database(prefect_home, database):
    """For the servers that commands start by themselves."""
    database(prefect_home)


@pytest.fixture(scope="session")
def command_server(tmp_path_factory, database):
    """The API of a Prefect server for commands, each of which would start one of its own."""
    quiet = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in NOT_NEEDED}
    home = database(tmp_path_factory.mktemp("shared") / "server")
    with prefect_server(home, PREFECT_SERVER_UI_ENABLED="false", **quiet) as environment:
        yield environment["PREFECT_API_URL"]


@pytest.fixture
def shared_server(command_server, monkeypatch):
    """Have the commands of a test use the one Prefect server, as quietly as one of their own."""
    for name, value in {**COMMAND_SETTINGS, **OWN_SERVER_SETTINGS, "PREFECT_API_URL": command_server}.items():
        monkeypatch.setenv(name, value)
