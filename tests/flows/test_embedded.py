import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from flows.embedded import NoHomeError, start_prefect_server
from tests.conftest import QUICK, free_port, wait_for
from tests.tasks.small_images import write_image

WAIT = """
from flows.embedded import EmbeddedServerError, start_prefect_server, wait_until_ready
start_prefect_server()
try:
    wait_until_ready()
except EmbeddedServerError as error:
    print(error)
"""


def alone(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process that is told of no server."""
    own = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**own, **environment}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_a_server_that_cannot_start_is_not_waited_for_and_its_reason_is_told(tmp_path):
    (tmp_path / "asyncpg.py").write_text("raise ImportError('asyncpg is broken here')\n")
    started = time.monotonic()
    finished = alone(WAIT, PYTHONPATH=str(tmp_path))
    assert "the command's own Prefect server ended with status 1" in finished.stdout
    assert "ImportError: asyncpg is broken here" in finished.stdout
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_the_reason_of_a_server_that_ends_while_it_starts_is_told(tmp_path):
    (tmp_path / "prefect.db").mkdir()
    finished = alone(WAIT, PREFECT_HOME=str(tmp_path))
    assert "unable to open database file" in finished.stdout


HOLD = """
import os, socket, urllib.parse
from flows.embedded import start_prefect_server, wait_until_ready
start_prefect_server()
port = urllib.parse.urlsplit(os.environ["PREFECT_API_URL"]).port
with socket.socket() as other:
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As servers do.
    try:
        other.bind(("127.0.0.1", port))
        other.listen()
        print("taken")
    except OSError:
        wait_until_ready()
        print("held")
"""


@pytest.mark.slow
def test_commands_that_are_started_together_on_a_fresh_account_find_their_server_and_no_other_gets_its_port(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**environment, "PREFECT_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for code in (HOLD, WAIT)
    ]
    assert [command.communicate(timeout=180) for command in started] == [("held\n", ""), ("", "")]
    assert [command.returncode for command in started] == [0, 0]


@pytest.mark.slow
def test_a_disk_without_room_for_the_database_is_told_with_the_way_out(tmp_path):
    # A file as large as it may be stands for it: SQLite says the same of both.
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n{WAIT}"
    finished = alone(limited, PREFECT_HOME=str(tmp_path))
    assert f"its folder {tmp_path} takes no more: free room, or set PREFECT_HOME" in finished.stdout


@pytest.mark.slow
def test_a_database_that_is_damaged_or_of_a_later_prefect_is_told_with_what_to_do(tmp_path):
    database = tmp_path / "prefect.db"
    database.write_bytes(b"no database" * 1000)
    advice = f"move its database {database} away, and a new one is made. It said: "
    assert advice in alone(WAIT, PREFECT_HOME=str(tmp_path)).stdout
    database.unlink()
    assert alone(WAIT, PREFECT_HOME=str(tmp_path)).stdout == ""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    assert advice in alone(WAIT, PREFECT_HOME=str(tmp_path)).stdout


def test_a_folder_that_takes_no_file_is_told_before_a_server_is_started(tmp_path, ssdnet, monkeypatch):
    # The superuser may write anywhere, but not there.
    monkeypatch.setenv("PREFECT_HOME", "/proc/self")
    finished = ssdnet("inspect", tmp_path, "--results", tmp_path / "results")
    assert finished.returncode == 1
    assert "Set PREFECT_HOME" in finished.stderr
    assert "starting" not in finished.stderr


def test_an_account_without_a_home_is_told_to_set_one(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(NoHomeError, match="set HOME to a folder"):
        start_prefect_server()


def test_a_folder_that_cannot_be_made_for_the_database_is_named_with_the_way_out(tmp_path, ssdnet, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "prefect"))
    finished = ssdnet("inspect", tmp_path, "--results", tmp_path / "results")
    assert finished.returncode == 1
    assert str(tmp_path / "file") in finished.stderr
    assert "Set PREFECT_HOME" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_the_commands_own_server_keeps_away_from_the_users_database_profile_and_proxy(tmp_path):
    profile = [
        'active = "plant"',
        "[profiles.plant]",
        'PREFECT_API_URL = "http://plant.example/api"',
        f'PREFECT_SERVER_DATABASE_CONNECTION_URL = "sqlite+aiosqlite:///{tmp_path}/plant.db"',
    ]
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text("\n".join(profile))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "XDG_"))}
    finished = subprocess.run(
        [sys.executable, "-c", WAIT],
        env={
            **own,
            "HOME": str(tmp_path),
            "PREFECT_PROFILE": "plant",
            "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
            "PREFECT_SERVER_API_AUTH_STRING": "plant:secret",
            "PREFECT_SERVER_API_BASE_PATH": "/plant/api",
            "http_proxy": f"http://127.0.0.1:{free_port()}",
            "NO_PROXY": "",
            "no_proxy": "plant.example",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (finished.stdout, finished.stderr, finished.returncode) == ("", "", 0)
    assert (tmp_path / ".cache" / "ssdnet" / "prefect" / "prefect.db").exists()
    assert [path.name for path in (tmp_path / ".prefect").iterdir()] == ["profiles.toml"]
    assert not (tmp_path / "plant.db").exists()


@pytest.mark.parametrize(
    "named", [{"ALL_PROXY": "socks5://127.0.0.1:9"}, {"all_proxy": "socks4://127.0.0.1:9"}, {"no_proxy": "[::1],a.b"}]
)
def test_a_proxy_that_prefects_client_does_not_know_is_none_of_a_command_with_its_own_server(named):
    code = (
        "import subprocess; subprocess.Popen = lambda *command, **options: None\n"
        "from flows.embedded import start_prefect_server; start_prefect_server()\n"
        "import httpx; httpx.Client()"
    )
    finished = alone(code, **named)
    assert finished.returncode == 0, finished.stderr


def test_the_terminal_is_left_to_the_bar_with_a_server_of_the_users_too():
    code = (
        "import os; from flows.embedded import start_prefect_server; start_prefect_server()\n"
        "print(os.environ['PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL'], os.environ['DASK_LOGGING__DISTRIBUTED'])"
    )
    environment = {**os.environ, "PREFECT_API_URL": "http://plant.example/api"}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert finished.stdout.split() == ["CRITICAL", "critical"], finished.stderr


@pytest.mark.slow
def test_a_batch_whose_own_server_was_killed_is_sealed_and_ends_soon_after_with_a_warning(tmp_path):
    for number in range(2):
        write_image(tmp_path / "images" / f"{number}.png", size=(64, 64))
    places = [str(tmp_path / "images"), "--results", str(tmp_path / "results"), "--batch", "n", "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "flows", "inspect", *places, *QUICK], stderr=subprocess.PIPE, env=environment, text=True
    ) as command:
        assert command.stderr is not None
        while "waiting for workers" not in command.stderr.readline():
            assert command.poll() is None
        children = psutil.Process(command.pid).children()
        [server] = [child for child in children if "flows.embedded_server" in child.cmdline()]
        server.kill()
        seal = tmp_path / "results" / "n" / "seal.json"
        wait_for(seal.exists, what="a seal without a server")
        sealed = time.monotonic()
        assert "the batch is sealed, but its run's page does not tell so" in command.stderr.read()
    assert command.returncode == 0
    # Without an end of its own it took minutes: every request was tried six times, and the last events ten.
    assert time.monotonic() - sealed < 60
