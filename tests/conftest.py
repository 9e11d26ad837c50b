import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from hypothesis import settings
from prefect.settings import PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from tasks import worker_template

Value = TypeVar("Value")

ROOT = Path(__file__).parent.parent
# The machines that run this are shared: how long one example takes says nothing. What CI draws is the same each time: a
# change must not be refused for an example that the code before it would have failed as well.
settings.register_profile("shared machine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("shared machine")

QUICK = ["--set", "fit.steps=8", "--set", "working_size=64", "--set", "fit.crop=64"]


LONGEST_FIRST = (
    *("test_backfill", "test_local_batch", "test_local_stack", "test_monitoring", "test_dispatch", "test_s3_policy"),
    *("test_object_storage", "test_cluster", "test_localization", "test_topology", "test_prefect_server"),
    *("test_large_night", "test_embedded", "test_tls", "test_inspection"),
)
"""Of the files whose tests take minutes: what is left over at the end is short, and all processes end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Tests in a shell's background ignore Ctrl-C, under `nohup` a closed terminal, and so does all that they start."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect home of the tests' own: the user's database is not theirs."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.delenv("PREFECT_API_URL", raising=False)
        # A test that talks to no server of its own is to fail: Prefect would start one for a moment.
        patch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
        with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}):
            yield home


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the workers of a test forked as those of a command are: from nothing, each loads the method for seconds."""
    monkeypatch.setattr(worker_template, "_started", False)
    worker_template.start_worker_template()


@pytest.fixture(scope="session")
def ssdnet() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own."""

    def run(*arguments: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows", *map(str, arguments)], capture_output=True, text=True, timeout=timeout
        )

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server, moto in its own environment; gives its address, with credentials in the environment."""
    server = ROOT / ".venv-moto" / "bin" / "moto_server"
    if not server.exists():
        if os.environ.get("SSDNET_REQUIRE_SERVERS"):
            pytest.fail(f"{server} is missing: run `make test-slow`")
        pytest.skip("no S3 server: `make test-slow` installs one")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        process = subprocess.Popen(
            [str(server), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: accepts(port), what=f"moto_server on port {port}")
            yield address
        finally:
            end(process)


def end(process: "subprocess.Popen[Any]", *, within: float = 60) -> None:
    """End what a test ran beside itself, by force if it takes long: a busy machine is no fault of the test's."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(timeout=within)
    except subprocess.TimeoutExpired:
        for left in started:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], Value], *, what: str, timeout: float = 180) -> Value:
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if found := condition():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout:.0f} s")
        # A server that is asked all the time takes a third of a core for its answers.
        time.sleep(min(1.0, max(0.05, 10 * (time.monotonic() - asked))))
