"""The embedded default: a command that needs no server to be started.

Must be entered before ``prefect`` is imported, which reads its settings from the environment once.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import IO

from ssdnet_core.errors import SsdnetError

START_TIMEOUT = 90.0
_servers: list[tuple["subprocess.Popen[bytes]", IO[bytes]]] = []
"""Keeps the pipe open whose end tells the server to stop, and the file of its standard error."""
HEARTBEAT = 30
"""Seconds; what `infra/automations.py` expects of a run that is alive."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",
    "DASK_LOGGING__DISTRIBUTED": "error",
}


class EmbeddedServerError(SsdnetError, RuntimeError):
    """The command's own Prefect server did not start."""


def start_prefect_server() -> None:
    """Start a Prefect API for the rest of this process, unless ``PREFECT_API_URL`` names one.

    Returns at once: the server comes up beside the imports, and :func:`wait_until_ready` waits for it. It ends after
    this process, however that ends; not before, since Prefect reports the last events while Python shuts down.
    """
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))
    if os.environ.get("PREFECT_API_URL"):
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    port = _free_port()
    complaint = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the server runs
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.embedded_server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=complaint,
        # A session of its own: Ctrl-C is for the command, which still has its last state to report.
        start_new_session=True,
    )
    _servers.append((server, complaint))
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"


def wait_until_ready(timeout: float = START_TIMEOUT) -> None:
    """Wait until the Prefect API answers.

    Raises
    ------
    EmbeddedServerError
        If it does not within ``timeout`` seconds, or this process started it and it ended.
    """
    address = os.environ["PREFECT_API_URL"]
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            _check_servers()
            time.sleep(0.1)
    raise EmbeddedServerError(
        f"the Prefect API at {address} does not answer within {timeout:.0f} s: start `prefect server start` "
        "yourself and set PREFECT_API_URL to see why"
    )


def _check_servers() -> None:
    for server, complaint in _servers:
        if (status := server.poll()) is not None:
            complaint.seek(0)
            said = complaint.read().decode(errors="replace").strip() or "nothing"
            raise EmbeddedServerError(
                f"the command's own Prefect server ended with status {status}: is Prefect installed as "
                f"constraints.txt has it? It said: {said.splitlines()[-1]}"
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
