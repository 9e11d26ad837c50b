import pytest

from flows.embedded import COMMAND, OWN_SERVER
from tests.prefect_server import prefect_server


@pytest.fixture(scope="module")
def module_server(tmp_path_factory):
    """The API of a Prefect server for the commands of a module, each of which would start one of its own."""
    with prefect_server(tmp_path_factory.mktemp("shared") / "server") as environment:
        yield environment["PREFECT_API_URL"]


@pytest.fixture
def shared_server(module_server, monkeypatch):
    """Have the commands of a test use the module's Prefect server, as quietly as one of their own."""
    for name, value in {**COMMAND, **OWN_SERVER, "PREFECT_API_URL": module_server}.items():
        monkeypatch.setenv(name, value)
