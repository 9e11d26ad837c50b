"""A Dask cluster of processes with addresses of their own, for the tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks.local_workers import DASK_SETTINGS, WORKER_ENVIRONMENT
from tests.conftest import end, wait_for

ALLOWED_FAILURES = DASK_SETTINGS["distributed.scheduler.allowed-failures"]


@dataclass
class Cluster:
    """A scheduler, and the workers that a test starts and ends.

    Attributes
    ----------
    address
        Of the scheduler.
    folder
        For the processes' logs.
    environment
        What the processes have in their environment beside the test's own.
    """

    address: str
    folder: Path
    environment: Mapping[str, str]
    stack: ExitStack = field(default_factory=ExitStack)

    def start_worker(self, host: str) -> "subprocess.Popen[bytes]":
        """Start a worker at an address of this machine, as docs/OPERATIONS.md says."""
        name = f"worker-{host}"
        command = ["worker", self.address, "--host", host, "--name", name, "--nthreads", "1", "--memory-limit", "2GiB"]
        options = ["--preload", "tasks.worker_preload", "--dashboard-address", f"{host}:0"]
        environment = {**WORKER_ENVIRONMENT, **self.environment}
        return self.stack.enter_context(
            process([*command, *options], log=self.folder / f"{name}.log", environment=environment)
        )


@contextmanager
def dask_cluster(folder: Path, *, host: str, environment: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Start a scheduler at an address of this machine, and end it and its workers afterwards."""
    environment = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(ALLOWED_FAILURES), **(environment or {})}
    contact = folder / "scheduler.json"
    command = ["scheduler", "--host", host, "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    with process(
        [*command, "--scheduler-file", str(contact)], log=folder / "scheduler.log", environment=environment
    ) as scheduler:
        wait_for(
            lambda: scheduler.poll() is not None or (contact.exists() and contact.read_text()), what="the scheduler"
        )
        assert scheduler.poll() is None, (folder / "scheduler.log").read_text()
        cluster = Cluster(json.loads(contact.read_text())["address"], folder, environment)
        with cluster.stack:
            yield cluster


@contextmanager
def process(command: list[str], *, log: Path, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `dask` beside the test."""
    with log.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield running
        finally:
            end(running)
