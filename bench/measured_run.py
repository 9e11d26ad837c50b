"""One run of a command, watched from outside: wall and CPU seconds, peak memory of each process, its stages."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from about import markdown_table

DATABASE = "prefect.db"
SAMPLED_EVERY = 0.2
MEGABYTE = 2**20
TEMPLATE = "worker template"


@dataclass(frozen=True)
class Run:
    """What a run of a command took.

    Attributes
    ----------
    wall
        Seconds from start to exit.
    stages
        Each stage that the command announced, and when, in seconds after the start.
    cpu, peak
        For each part that a process plays (flow, server, worker, the template that workers are forked from, helper):
        the CPU seconds of all its processes, and the largest resident memory of one of them in MiB.
    task_runs
        Number of task runs that were added to Prefect's database.
    """

    wall: float
    stages: tuple[tuple[str, float], ...]
    cpu: dict[str, float]
    peak: dict[str, float]
    task_runs: int

    def seconds(self, first: str, last: str) -> float:
        """Return the seconds between the beginnings of two stages."""
        begun = dict(self.stages)
        return begun[last] - begun[first]


def comparison(first: Run, again: Run, *, of: str, names: tuple[str, str]) -> str:
    """Return two runs side by side as a table in Markdown; ``of`` says what was done, ``names`` which run is which."""
    rows = [["wall, s", f"{first.wall:.1f}", f"{again.wall:.1f}"]]
    for what, title in (("cpu", "CPU of {}, s"), ("peak", "peak memory of one {}, MiB")):
        of_first, of_again = getattr(first, what), getattr(again, what)
        rows += [[title.format(part), f"{of_first[part]:.1f}", f"{of_again.get(part, 0.0):.1f}"] for part in of_first]
    rows.append(["Prefect task runs", str(first.task_runs), str(again.task_runs)])
    return markdown_table([of, *names], rows)


def run_measured(arguments: Sequence[str], *, home: Path) -> Run:
    """Run ``python ARGUMENTS`` and wait for it, with Prefect's data in a folder of its own.

    The database is made before the clock starts: that happens once in the life of an installation.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    environment = {**os.environ, "PREFECT_HOME": str(home.resolve()), "PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("PREFECT_API_URL", None)
    if not (home / DATABASE).exists():
        upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        subprocess.run(upgrade, env=environment, check=True, stdout=subprocess.DEVNULL)
    before, started = _task_runs(home), time.monotonic()
    command = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    watcher = _Watcher(command.pid)
    watcher.start()
    lines = [(line.rstrip(), time.monotonic() - started) for line in command.stderr or ()]
    status = command.wait()
    wall = time.monotonic() - started
    watcher.stop()
    if status != 0:
        raise RuntimeError(f"{arguments} ended with {status}:\n" + "\n".join(text for text, _ in lines[-30:]))
    stages = tuple((text.removeprefix("ssdnet: "), at) for text, at in lines if text.startswith("ssdnet: "))
    return Run(wall, (*stages, ("end", wall)), watcher.cpu(), watcher.peak(), _task_runs(home) - before)


def _task_runs(home: Path) -> int:
    with sqlite3.connect(f"file:{home / DATABASE}?mode=ro", uri=True) as database:
        [count] = database.execute("select count(*) from task_run").fetchone()
    return int(count)


class _Watcher(threading.Thread):
    """Looks at a process and its children now and then; the peak itself is kept by the kernel."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._seen: dict[int, tuple[str, float, float]] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(SAMPLED_EVERY):
            with suppress(psutil.Error, OSError):
                for process in (self._root, *self._root.children(recursive=True)):
                    self._look(process)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def cpu(self) -> dict[str, float]:
        return {part: sum(cpu for name, cpu, _ in self._seen.values() if name == part) for part in self._parts()}

    def peak(self) -> dict[str, float]:
        return {part: max(peak for name, _, peak in self._seen.values() if name == part) for part in self._parts()}

    def _parts(self) -> list[str]:
        return sorted({name for name, _, _ in self._seen.values()})

    def _look(self, process: psutil.Process) -> None:
        with suppress(psutil.Error, OSError, ValueError):
            arguments = " ".join(process.cmdline())
            times = process.cpu_times()
            status = Path(f"/proc/{process.pid}/status").read_text()
            # A process that has ended but was not waited for has no memory any more.
            if (peak := re.search(r"VmHWM:\s+(\d+) kB", status)) is not None:
                part = self._part(process, arguments)
                self._seen[process.pid] = part, times.user + times.system, int(peak[1]) * 1024 / MEGABYTE

    def _part(self, process: psutil.Process, arguments: str) -> str:
        if process.pid == self._root.pid:
            return "flow"
        if "embedded_server" in arguments:
            return "server"
        # A worker is told by its parent, since a fork has the arguments of what it was forked from.
        if self._seen.get(process.ppid(), ("",))[0] == TEMPLATE:
            return "worker"
        if "multiprocessing.forkserver" in arguments:
            return TEMPLATE
        return "worker" if "spawn_main" in arguments else "helper"
