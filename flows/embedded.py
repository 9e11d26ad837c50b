"""The embedded default: a command that needs no server to be started.

Must be entered before ``prefect`` is imported, which reads its settings from the environment once.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from ssdnet_core.errors import SsdnetError

START_TIMEOUT = 90.0
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_ROOT_LEVEL": "ERROR",
    "DASK_LOGGING__DISTRIBUTED": "error",
}


class EmbeddedServerError(SsdnetError, RuntimeError):
    """The command's own Prefect server did not start."""


@contextmanager
def prefect_server() -> Iterator[None]:
    """Give the block a Prefect API: the one that ``PREFECT_API_URL`` names, or one of its own.

    The server's own process starts at once and is waited for only when the block asks by :func:`wait_until_ready`,
    so that it comes up beside the imports.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.embedded_server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A session of its own: Ctrl-C is for the command, which still has its last state to report.
        start_new_session=True,
    )
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        if server.stdin:
            server.stdin.close()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_until_ready(timeout: float = START_TIMEOUT) -> None:
    """Wait until the Prefect API answers.

    Raises
    ------
    EmbeddedServerError
        If it does not within ``timeout`` seconds.
    """
    address = os.environ["PREFECT_API_URL"]
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise EmbeddedServerError(
        f"the Prefect API at {address} does not answer within {timeout:.0f} s: start `prefect server start` "
        "yourself and set PREFECT_API_URL to see why"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
