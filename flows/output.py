"""What a command prints, and how it ends where that cannot be written, as on a full disk.

Python itself would end with a traceback, or with status 0 or 120 after the results are lost.
"""

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ssdnet_core.errors import SsdnetError


class OutputError(SsdnetError, OSError):
    """What a command prints cannot be written."""


class _Output(io.FileIO):
    """Standard output; what comes after a failure is dropped, or Python would fail once more as it ends."""

    _lost = False

    def write(self, content: Any) -> int:
        if self._lost:
            return len(content)
        try:
            return super().write(content)
        except OSError as error:
            self._lost = True
            if error.errno == errno.EPIPE:
                raise  # Whoever reads it has seen enough.
            raise OutputError(
                f"cannot write the output: {error.strerror}. What was done before is kept: free room or direct the "
                "output elsewhere, and run the same command again"
            ) from error


class _Messages(io.FileIO):
    """Standard error; what it does not take is dropped, and the work goes on."""

    def write(self, content: Any) -> int:
        with suppress(OSError):
            return super().write(content)
        return len(content)


def watch_output() -> None:
    """Have a failed write to standard output raise `OutputError`, and one to standard error be ignored."""
    # A file's name may have what the terminal's encoding has not.
    for name, kind in (("stdout", _Output), ("stderr", _Messages)):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        raw = kind(stream.fileno(), "wb", closefd=False)
        watched = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors="backslashreplace",
            # PYTHONUNBUFFERED asks for no buffer; the one here is flushed after each line instead.
            line_buffering=stream.line_buffering or stream.write_through,
            write_through=stream.write_through,
        )
        setattr(sys, name, watched)


@contextmanager
def ended_by_lost_output() -> Iterator[None]:
    """End the process with status 1 if what was printed in the block cannot be written, and say why."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(1)
    except OutputError as error:
        sys.stderr.write(f"ssdnet: {error}\n")
        sys.exit(1)
