import os
import subprocess
import sys
import time

import pytest

WAIT = """
from flows.embedded import EmbeddedServerError, start_prefect_server, wait_until_ready
start_prefect_server()
try:
    wait_until_ready()
except EmbeddedServerError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_server_that_cannot_start_is_not_waited_for_and_its_reason_is_told(tmp_path):
    (tmp_path / "asyncpg.py").write_text("raise ImportError('asyncpg is broken here')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    started = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-c", WAIT],
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "the command's own Prefect server ended with status 1" in finished.stdout
    assert "ImportError: asyncpg is broken here" in finished.stdout
    assert time.monotonic() - started < 60
