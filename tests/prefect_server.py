"""A real Prefect server for the tests, and talking to it."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, end, free_port, wait_for

RETRIES = 20
PREFECT = [sys.executable, "-m", "prefect"]


def provide_database(home: Path, *, shared: Path) -> None:
    """Copy in the database that a first server made, in a folder of all test processes; to make one takes 15 s."""
    made = shared / "prefect-database"
    with (shared / "prefect-database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with prefect_server(shared / "prefect-first", PREFECT_SERVER_UI_ENABLED="false"):
                pass
            (shared / "prefect-first").rename(made)
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "prefect.db").exists():
        for file in made.glob("prefect.db*"):
            shutil.copy(file, home)


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Start a server with a home of its own; gives the environment that names it."""
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(home),
        "SSDNET_HOME": str(ROOT),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **settings,
    }
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_for(lambda: healthy(port), what="the Prefect server", timeout=300)
            yield environment
        finally:
            end(process)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
            return True
    except OSError:
        return False


def ask(environment: dict[str, str], path: str, body: dict[str, Any], *, method: str = "POST") -> Any:
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    for _ in range(RETRIES):
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            # SQLite was busy: nothing has changed, and Prefect's own clients ask again as well.
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            time.sleep(1)
    pytest.fail(f"the Prefect server is unavailable: {path}")


def prefect(environment: dict[str, str], *arguments: str) -> str:
    finished = subprocess.run([*PREFECT, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
