"""Ctrl-C, and what a stopped service or a closed terminal sends.

They end a command that starts at once: in the middle of an import an exception may be swallowed, or leave half of a
module. Once there is something to lose, they are a KeyboardInterrupt.
"""

import os
import signal
from types import FrameType

_ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AS_PYTHON_STARTS = (signal.default_int_handler, signal.SIG_DFL)

_CLEAN_LINE = b"\r\x1b[K\x1b[?25h"
"""What a terminal is sent: its line is emptied of a progress bar, and its cursor shown."""


def end_at_once_when_interrupted() -> None:
    """Have them end this process with a word, until :func:`raise_when_interrupted`."""
    for number in _ASKED_TO_END:
        # What is ignored stays so, as Ctrl-C in a shell's background.
        if signal.getsignal(number) in _AS_PYTHON_STARTS:
            signal.signal(number, _end)


def raise_when_interrupted() -> None:
    """Have them be a KeyboardInterrupt from now on: all is imported, and the work begins."""
    for number in _ASKED_TO_END:
        if signal.getsignal(number) is _end:
            # This one in particular: asyncio handles Ctrl-C only in its place.
            signal.signal(number, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, (_CLEAN_LINE if os.isatty(2) else b"") + b"ssdnet: stopped before anything was begun\n")
    os._exit(1)
