"""A command's own Prefect server, so that the user need not start one.

`set_up_environment` and `start_prefect_server` must be called before ``prefect`` is imported, which reads its settings
from the environment once.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from flows.api_address import check_named_address
from ssdnet_core.errors import SsdnetError
from tasks.proxies import reached_directly

SERVER_START_TIMEOUT = 90.0
_servers: list[tuple["subprocess.Popen[bytes]", IO[bytes]]] = []
"""The server of this process, and the file of its standard error; kept, since it stops when its input is closed."""
HEARTBEAT = 30
"""Seconds; what `infra/automations.py` expects of a run that is alive."""

DATABASE = "prefect.db"

COMMAND_SETTINGS = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
    # The run's log goes to the server alone: on the terminal there is the bar, and the command tells what failed.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # A line for each event that a server which went away does not take.
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    # Dask would log at length that workers could not send their last messages when the command ended.
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
"""Settings of a flow that a command runs, whichever server it runs with."""

OWN_SERVER_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_UI_ENABLED": "false",
    # No page in a browser has business here; by default any may ask, and change what it likes.
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "none",
    "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",
}

UNWRITABLE = ("disk is full", "readonly database", "No space left", "quota exceeded", "disk I/O error")
"""What SQLite and the system say of a place for a database that does not take it."""

UNUSABLE = ("file is not a database", "malformed", "Can't locate revision")
"""What SQLite and Prefect say of a database that is damaged, or of a later version of Prefect."""

RETRIES = ("PREFECT_CLIENT_MAX_RETRIES", "3")
"""With a server of the user's, which may go away: with Prefect's five, each report of a run's end takes a minute."""

OWN_RETRIES = ("PREFECT_CLIENT_MAX_RETRIES", "1")
"""With the command's own server: on the same machine it answers, or has ended and never will."""

OTHER_SERVERS = (
    "PREFECT_PROFILE",
    "PREFECT_SERVER_DATABASE_",
    "PREFECT_API_DATABASE_",
    "PREFECT_SERVER_API_",
    "PREFECT_API_AUTH_STRING",
)
"""Variables that lead to a server of the user's, or are meant for it: its database must not be written or migrated."""


class EmbeddedServerError(SsdnetError, RuntimeError):
    """The command's own Prefect server did not start."""


class NoHomeError(SsdnetError, RuntimeError):
    """The account has no home folder, and Prefect cannot be imported without one."""


def set_up_environment() -> None:
    """Set what a command's flow needs of Prefect and Dask, unless the user has set it.

    Raises
    ------
    WrongApiAddressError
        If ``PREFECT_API_URL`` is no address; at some, Prefect could not even be imported.
    NoHomeError
        If nothing says where the account's home folder is.
    """
    check_named_address()
    try:
        Path.home()
    except RuntimeError as error:
        raise NoHomeError(
            "this account has no home folder, and Prefect asks for one: set HOME to a folder that can be written"
        ) from error
    for name, value in COMMAND_SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ.get("PREFECT_API_URL"):
        os.environ.setdefault(*RETRIES)
    os.environ.update(reached_directly("localhost", "127.0.0.1"))


def start_prefect_server() -> None:
    """Start a Prefect API for the rest of this process, unless ``PREFECT_API_URL`` names one.

    Returns at once: the server comes up beside the imports, and :func:`wait_until_ready` waits for it. It ends after
    this process, however that ends; not before, since Prefect reports the last events while Python shuts down. Its
    database is the product's own, or lies in an exported ``PREFECT_HOME``.

    Raises
    ------
    WrongApiAddressError, NoHomeError
        As :func:`set_up_environment`.
    EmbeddedServerError
        If there is no place for its database.
    """
    set_up_environment()
    if os.environ.get("PREFECT_API_URL"):
        return
    os.environ.setdefault(*OWN_RETRIES)
    for name, value in OWN_SERVER_SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("ALL_PROXY", "all_proxy"):
        # Read by Prefect's client alone, which needs no proxy here, and fails at one that it does not know.
        os.environ.pop(name, None)
    _leave_others_alone()
    complaint = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the server runs
    # Bound here, so that no other program gets the port; the server listens on it when it is ready, and until then a
    # connection is refused. Without SO_REUSEADDR, by which another could share the port that nobody listens on yet.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "flows.embedded_server", str(bound.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaint,
            pass_fds=[bound.fileno()],
            # A session of its own: Ctrl-C is for the command, which still has its last state to report.
            start_new_session=True,
        )
    _servers.append((server, complaint))
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"


def wait_until_ready() -> None:
    """Wait until the Prefect API that this process started answers.

    Raises
    ------
    EmbeddedServerError
        If it does not within `SERVER_START_TIMEOUT` seconds, or ended.
    """
    address = os.environ["PREFECT_API_URL"]
    deadline = time.monotonic() + SERVER_START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            _check_servers()
            time.sleep(0.1)
    raise EmbeddedServerError(
        f"the Prefect API at {address} does not answer within {SERVER_START_TIMEOUT:.0f} s: start `prefect server "
        "start` yourself and set PREFECT_API_URL to see why"
    )


def has_own_server() -> bool:
    """Whether this process started a server, which has its database in ``PREFECT_HOME``."""
    return bool(_servers)


def has_lost_server() -> bool:
    """Whether this process started a server that has ended before it."""
    return any(server.poll() is not None for server, _ in _servers)


def _check_servers() -> None:
    for server, complaint in _servers:
        if (status := server.poll()) is not None:
            # Raises where the current folder was removed, which ends a server that starts, too.
            Path.cwd()
            complaint.seek(0)
            said = complaint.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            reason = next((line for line in reversed(said) if "Error: " in line), said[-1])
            home, advice = os.environ["PREFECT_HOME"], "is Prefect installed as constraints.txt has it?"
            if any(sign in reason for sign in UNWRITABLE):
                advice = f"its folder {home} takes no more: free room, or set PREFECT_HOME to another one."
            elif any(sign in reason for sign in UNUSABLE):
                advice = f"move its database {home}/{DATABASE} away, and a new one is made."
            raise EmbeddedServerError(
                f"the command's own Prefect server ended with status {status}: {advice} It said: {reason}"
            )


def _leave_others_alone() -> None:
    for name in [name for name in os.environ if name.startswith(OTHER_SERVERS)]:
        del os.environ[name]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(os.environ.get("PREFECT_HOME") or Path(cache) / "ssdnet" / "prefect").expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        # A folder that is there may take no file.
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise EmbeddedServerError(
            f"the command's own Prefect server needs a folder: {error}. Set PREFECT_HOME to one that can be written"
        ) from error
    os.environ |= {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "no-profiles.toml"),
        # By name, since a prefect.toml or .env in the working folder may hold another.
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / DATABASE}",
    }
