"""The folder that holds a stack's whole state, and who is at work in it."""

import fcntl
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from infra.local.errors import LocalStackError
from infra.local.processes import end_all, marked

STOP_TIMEOUT = 180.0
PROBE_SECONDS = 0.5
"""Seconds to wait for a lock: another process may hold it for a moment, only to see whether the home is held."""


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Hold a home for the length of a ``with`` block; a killed holder loses it at once.

    Raises
    ------
    LocalStackError
        If it is held, or cannot be made.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        opened = _pid_file(home).open("a+")
    except OSError as error:
        raise LocalStackError(
            f"cannot keep the stack's state in {home} ({error.strerror}): choose another folder with --home"
        ) from error
    with opened as file:
        if not _locked(file, fcntl.LOCK_EX, within=PROBE_SECONDS):
            raise LocalStackError(
                f"{home} is up, by process {_pid_file(home).read_text()}: "
                f"`ssdnet down --home {shlex.quote(str(home))}` stops it; "
                "another --home, with other ports, is another stack"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            # Whoever looks before the next holder has said who it is must not take this process for it.
            file.truncate(0)


def stop(home: Path) -> bool:
    """Stop the stack of a home, and what a killed one left behind; return whether anything ran.

    Raises
    ------
    LocalStackError
        If it does not stop.
    """
    holder = _holder(home)
    if holder:
        try:
            os.kill(holder, signal.SIGTERM)
        except ProcessLookupError:
            pass  # It has ended meanwhile.
        except PermissionError as error:
            raise LocalStackError(
                f"{home} is up, by process {holder} of another account: stop it as that account"
            ) from error
        deadline = time.monotonic() + STOP_TIMEOUT
        while _holder(home):
            if time.monotonic() > deadline:
                raise LocalStackError(f"process {holder} has not stopped {home} after {STOP_TIMEOUT:.0f} s: kill it")
            time.sleep(0.1)
    left = marked(home)
    end_all(left)
    return bool(holder or left)


def _holder(home: Path) -> int | None:
    if not _pid_file(home).exists():
        return None
    with _pid_file(home).open() as file:
        # Shared, so that of two who look at once none takes the other for the holder.
        if _locked(file, fcntl.LOCK_SH):
            return None
        # One that is just starting has not said yet who it is.
        return int(file.read() or 0) or None


def _locked(file: IO[str], kind: int, *, within: float = 0.0) -> bool:
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _pid_file(home: Path) -> Path:
    return home / "up.pid"
