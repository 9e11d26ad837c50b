"""The signals of Ctrl-C, a stopped service and a closed terminal.

While a command starts, they end it at once: an exception in the middle of an import may be swallowed, or leave half of
a module. Once there is something to lose, they raise KeyboardInterrupt.
"""

import os
import signal
from types import FrameType

_ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AS_PYTHON_STARTS = (signal.default_int_handler, signal.SIG_DFL)

_CLEAN_LINE = b"\r\x1b[K\x1b[?25h"
"""What a terminal is sent: its line is emptied of a progress bar, and its cursor shown."""


def end_at_once_when_interrupted() -> None:
    """Have these signals end this process at once, until :func:`raise_when_interrupted`."""
    for number in _ASKED_TO_END:
        # Ignored signals stay so, as Ctrl-C in a background job.
        if signal.getsignal(number) in _AS_PYTHON_STARTS:
            signal.signal(number, _end)


def raise_when_interrupted() -> None:
    """Have these signals raise KeyboardInterrupt from now on: all is imported, and the work begins."""
    for number in _ASKED_TO_END:
        if signal.getsignal(number) is _end:
            # Exactly this handler: asyncio replaces no other for Ctrl-C.
            signal.signal(number, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, (_CLEAN_LINE if os.isatty(2) else b"") + b"ssdnet: stopped before anything was begun\n")
    os._exit(1)
