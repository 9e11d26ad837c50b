"""Processes that belong together: started, waited for, watched, and ended without a trace.

Every process carries a mark in its environment that its children inherit, flow runs and Dask workers included. So all
of them are found again, even by another command after their supervisor was killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.local.errors import LocalStackError

MARK = "SSDNET_UP"
"""Environment variable that marks the processes of one stack, with its home folder."""

PARTS_START_TIMEOUT = 300.0
END_TIMEOUT = 15.0
WATCHED_EVERY = 0.5
MOST_DEATHS = 3
DEATHS_COUNT_FOR = 600.0
TAIL_LINES = 15
TAIL_BYTES = 65_536
LONGEST_LOG = 50_000_000
"""Bytes. A part's log is at most twice as long, with what was cut off."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One process of the stack.

    Attributes
    ----------
    name
        As the user reads it, and as its log is called.
    command
        Program and arguments.
    answers
        Whether the part does its work; asked until it says so.
    environment
        What it finds in its environment beside what all parts do.
    state_in_memory
        Whether it must not be started again: when it dies, what the others rely on is lost.
    ends_children
        Whether its children are ended first: they end properly when asked, but it would kill them.
    """

    name: str
    command: tuple[str, ...]
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    state_in_memory: bool = False
    ends_children: bool = False


class Supervisor:
    """Starts parts, starts again what dies, and ends them in the reverse order.

    Parameters
    ----------
    home
        Folder of the stack; logs go to ``logs`` below it, and its path is the processes' mark.
    folder
        Working directory of the parts.
    environment
        Of all parts.
    tell
        Called with what the user should know.
    """

    def __init__(
        self, home: Path, *, folder: Path, environment: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self._home = home
        self._folder = folder
        self._environment = {**environment, MARK: str(home)}
        self._tell = tell
        self._running: dict[Part, subprocess.Popen[bytes]] = {}
        self._deaths: dict[Part, list[float]] = {}

    def start(self, part: Part) -> None:
        """Start a part; returns at once.

        Raises
        ------
        LocalStackError
            If its log cannot be written.
        """
        log = self.log(part)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists() and part not in self._running:
                log.replace(log.with_suffix(".log.1"))
            opened = log.open("ab")
        except OSError as error:
            raise LocalStackError(f"cannot write {log}, the log of the {part.name}: {error.strerror}") from error
        with opened as output:
            self._running[part] = subprocess.Popen(
                part.command,
                cwd=self._folder,
                env={**self._environment, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C is for the supervisor, which ends the parts in their order.
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )

    def run(self, name: str, *command: str) -> None:
        """Run a command of the stack to its end.

        Raises
        ------
        LocalStackError
            If it fails, with what it wrote.
        """
        finished = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, text=True)
        if finished.returncode:
            raise LocalStackError(f"{name} failed:\n{(finished.stdout + finished.stderr).strip()}")

    def wait_for(self, *parts: Part) -> None:
        """Wait until parts do their work.

        Raises
        ------
        LocalStackError
            If one ends, or does not answer in time; with the end of its log.
        """
        deadline = time.monotonic() + PARTS_START_TIMEOUT
        for part in parts:
            while not part.answers():
                for started, process in self._running.items():
                    if process.poll() is not None:
                        raise LocalStackError(self._death(started, process))
                if time.monotonic() > deadline:
                    raise LocalStackError(
                        f"the {part.name} does not answer after {PARTS_START_TIMEOUT:.0f} s; {self._log_tail(part)}"
                    )
                time.sleep(0.2)

    def watch(self) -> None:
        """Watch the parts for ever, start again what dies, and cut logs that have grown long.

        Raises
        ------
        LocalStackError
            If a part died that must not be started again, or one more than three times within ten minutes.
        """
        while True:
            time.sleep(WATCHED_EVERY)
            for part, process in list(self._running.items()):
                if process.poll() is not None:
                    self._revive(part, process)
                cut(self.log(part))

    def runs(self, part: Part) -> bool:
        """Whether a part was started and has not ended."""
        return part in self._running and self._running[part].poll() is None

    def end(self, *parts: Part) -> None:
        """End parts with their descendants, one after the other; without parts, all that run, last started first."""
        for part in parts or tuple(reversed(self._running)):
            process = self._running.pop(part, None)
            if process is None:
                continue
            family = descendants(process.pid)
            if part.ends_children:
                end_all(family)
            end_all([psutil.Process(process.pid)] if process.poll() is None else [])
            process.wait()
            end_all(family)

    def log(self, part: Part) -> Path:
        """Return where a part's output goes."""
        return self._home / "logs" / f"{part.name.replace(' ', '-')}.log"

    def _revive(self, part: Part, process: "subprocess.Popen[bytes]") -> None:
        now = time.monotonic()
        # Counted for each part: with Dask's scheduler its workers end as well.
        deaths = [death for death in self._deaths.get(part, ()) if now - death < DEATHS_COUNT_FOR] + [now]
        self._deaths[part] = deaths
        if part.state_in_memory:
            # The reason ends the command; until then all parts must be stopped, which may take a minute.
            self._tell(f"the {part.name} ended by itself: stopping all of it ...")
        if part.state_in_memory or len(deaths) > MOST_DEATHS:
            raise LocalStackError(self._death(part, process))
        self._tell(f"{self._death(part, process)}\nstarting the {part.name} again")
        self.start(part)

    def _death(self, part: Part, process: "subprocess.Popen[bytes]") -> str:
        return f"the {part.name} ended by itself (status {process.returncode}); {self._log_tail(part)}"

    def _log_tail(self, part: Part) -> str:
        log = self.log(part)
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError as error:
            # Somebody may have deleted it: no log is worth the stack.
            return f"{log} cannot be read ({error.strerror})"
        return f"{log} ends:\n" + "\n".join(f"    {line}" for line in lines)


def _hear_interrupts() -> None:
    # A script's `ssdnet up &` ignores SIGINT, and its parts would, too. Prefect's workers send it to themselves to end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def cut(log: Path) -> None:
    """Empty a log that has grown long, and keep its content beside it, in place of what was kept before."""
    with suppress(OSError):
        if log.stat().st_size <= LONGEST_LOG:
            return
        # Its part has it open to append, and goes on at the new end; what it writes in between is lost.
        with suppress(OSError):
            shutil.copyfile(log, log.with_suffix(".log.1"))
        # Even if it could not be kept: the disk may be full.
        os.truncate(log, 0)


def marked(home: Path) -> list[psutil.Process]:
    """Return the processes of the stack with this home, whoever started them; not the one that asks."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue  # Ended meanwhile, or somebody else's.
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """Return a process' children, their children, and so on."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end_all(processes: Iterable[psutil.Process]) -> None:
    """Ask processes to end, and kill those that have not after a while."""
    left = [process for process in processes if _runs(process)]
    for stop in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            try:
                stop(process)
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + END_TIMEOUT
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [process for process in left if _runs(process)]
    if left:
        raise LocalStackError(f"processes {', '.join(str(process.pid) for process in left)} cannot be ended")


def _runs(process: psutil.Process) -> bool:
    # A zombie has ended; only its parent has not taken notice, which is init's affair once that has ended too.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of this environment's Python."""
    return (sys.executable, "-m", module, *arguments)
