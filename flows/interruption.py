"""Ctrl-C while a command starts: in the midst of imports, which may swallow the exception that it is."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def end_at_once_when_interrupted() -> None:
    """Have Ctrl-C end this process with a word, until :func:`raise_when_interrupted`: nothing was begun yet."""
    # What is ignored stays so, as in a shell's background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_when_interrupted() -> None:
    """Have Ctrl-C be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupted_at_the_latest_here() -> Iterator[None]:
    """Raise KeyboardInterrupt after the block if it was raised inside, and swallowed by a callback of an import."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.default_int_handler(number, frame)

    earlier = signal.getsignal(signal.SIGINT)
    if earlier is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        # asyncio handles Ctrl-C only in place of Python's own handler.
        signal.signal(signal.SIGINT, earlier)
    if asked:
        raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"ssdnet: stopped before anything was begun\n")
    os._exit(1)
