"""Who is told how a run comes along: the command line's bar, or nobody."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from tasks.records import ImageRecord


class Observer(Protocol):
    """What wants to know."""

    def begin(self, *, images: int, settled: int) -> None:
        """Tell that ``settled`` of the batch's images need no inspection."""

    def inspected(self, record: ImageRecord) -> None:
        """Tell that one more image is done."""

    def stage(self, name: str) -> None:
        """Tell that the run has come to another of its stages."""

    def waiting(self, *, done: int, nights: int, running: Sequence[str]) -> None:
        """Tell which nights of a backfill are running, and how many of all need no more waiting."""


class _Nobody:
    def begin(self, *, images: int, settled: int) -> None:
        """Do nothing."""

    def inspected(self, record: ImageRecord) -> None:
        """Do nothing."""

    def stage(self, name: str) -> None:
        """Do nothing."""

    def waiting(self, *, done: int, nights: int, running: Sequence[str]) -> None:
        """Do nothing."""


# A flow's parameters must be data, for the server and the UI: its observer reaches it by context.
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


def observer() -> Observer:
    """Return who watches this run."""
    return _observer.get() or _Nobody()


@contextmanager
def observed_by(watcher: Observer) -> Iterator[None]:
    """Tell ``watcher`` of the runs inside the block."""
    token = _observer.set(watcher)
    try:
        yield
    finally:
        _observer.reset(token)
