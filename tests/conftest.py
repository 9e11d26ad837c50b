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

Value = TypeVar("Value")

ROOT = Path(__file__).parent.parent
# The machines that run this are shared: how long one example takes says nothing.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

QUICK = ["--set", "fit.steps=8", "--set", "working_size=64", "--set", "fit.crop=64"]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell that runs the tests in the background has them ignore Ctrl-C, and all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect home of the tests' own: the user's database is not theirs."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield home


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
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.05)
    return found
