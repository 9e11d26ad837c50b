"""Ctrl-C, and what a stopped service or a closed terminal sends: an exception, which imports may swallow."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AS_PYTHON_STARTS = (signal.default_int_handler, signal.SIG_DFL)


def end_at_once_when_interrupted() -> None:
    """Have them end this process with a word, until :func:`raise_when_interrupted`: nothing was begun yet."""
    for number in _ASKED_TO_END:
        # What is ignored stays so, as Ctrl-C in a shell's background.
        if signal.getsignal(number) in _AS_PYTHON_STARTS:
            signal.signal(number, _end)


def raise_when_interrupted() -> None:
    """Have them be a KeyboardInterrupt from now on."""
    for number in _ASKED_TO_END:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def interrupted_at_the_latest_here() -> Iterator[None]:
    """Raise KeyboardInterrupt after the block if it was raised inside, and swallowed by a callback of an import."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.default_int_handler(number, frame)

    noted = [number for number in _ASKED_TO_END if signal.getsignal(number) is signal.default_int_handler]
    for number in noted:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in noted:
            # asyncio handles Ctrl-C only in place of Python's own handler.
            signal.signal(number, signal.default_int_handler)
    if asked:
        raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"ssdnet: stopped before anything was begun\n")
    os._exit(1)
