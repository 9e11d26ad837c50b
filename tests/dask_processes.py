"""A Dask scheduler and workers as processes of their own, as they run on other machines."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from tests.conftest import ROOT, accepts, free_port, wait_for


class DaskProcesses:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.scheduler = self._started_scheduler()

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another at its address."""
        self.kill(self.scheduler)
        self.scheduler = self._started_scheduler()

    def add_worker(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until the scheduler knows it."""
        worker = self._start(
            *("dask_worker", self.address, "--name", name, "--nthreads", "1", "--local-directory", str(self._folder)),
            *options,
        )
        with Client(self.address) as client:
            wait_for(lambda: name in self.names(client), what=f"worker {name}")
        return worker

    def names(self, client: Client) -> dict[str, str]:
        """Return the addresses of the workers by their names."""
        return {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}

    def hang(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process and its children where they are: what is given to them is not done before they are killed."""
        os.killpg(process.pid, signal.SIGSTOP)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process and its children at once, as a power cut does."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._running.remove(process)

    def kill_all(self) -> None:
        for process in reversed(list(self._running)):
            self.kill(process)

    def _started_scheduler(self) -> subprocess.Popen[bytes]:
        scheduler = self._start("dask_scheduler", "--port", str(self._port))
        wait_for(lambda: accepts(self._port), what="the Dask scheduler")
        return scheduler

    def _start(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"distributed.cli.{program}", "--host", "127.0.0.1"),
                *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
                *options,
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running.append(process)
        return process


@contextmanager
def dask_processes(folder: Path) -> Iterator[DaskProcesses]:
    cluster = DaskProcesses(folder)
    try:
        yield cluster
    finally:
        cluster.kill_all()
