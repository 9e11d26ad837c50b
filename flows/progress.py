"""Observers of a run's progress: the bar of the command line, the page and the log of the run; there may be none."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

from tasks.records import ImageRecord


class Observer:
    """Is told how a run comes along; each method does nothing unless it is overridden."""

    def begin(self, *, images: int, settled: int) -> None:
        """Tell that ``settled`` of the batch's images need no inspection."""

    def inspected(self, record: ImageRecord) -> None:
        """Tell that one more image is done."""

    def stage(self, name: str) -> None:
        """Tell that the run has come to another of its stages."""

    def waiting(self, *, done: int, nights: int, running: Sequence[str], queued: Sequence[str]) -> None:
        """Tell which nights of a backfill run, in which states the others are queued, and how many of all are done."""

    def hint(self, text: str) -> None:
        """Tell what a user may have to look into."""

    def ended(self, result: object) -> None:
        """Tell what the run returns, before its server has taken note of it."""


class Results(Observer):
    """Keeps what the runs of a block returned: it is the last that a run tells before its end is reported."""

    def __init__(self) -> None:
        self.all: list[object] = []

    def ended(self, result: object) -> None:
        """Keep it."""
        self.all.append(result)


class _Everyone:
    """Tells all observers of the run whatever it is told."""

    def __init__(self, watchers: tuple[Observer, ...]) -> None:
        self._watchers = watchers

    def __getattr__(self, event: str) -> Callable[..., None]:
        def tell(*what: object, **named: object) -> None:
            for watcher in self._watchers:
                getattr(watcher, event)(*what, **named)

        return tell


# A flow's parameters must be data, for the server and the UI: its observers reach it by context.
_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


def observer() -> Observer:
    """Return who watches this run, as one."""
    # It takes any event: those of an observer are all that callers are let tell.
    return cast(Observer, _Everyone(_observers.get()))


@contextmanager
def observed_by(watcher: Observer) -> Iterator[None]:
    """Tell ``watcher``, too, of the runs inside the block."""
    token = _observers.set((*_observers.get(), watcher))
    try:
        yield
    finally:
        _observers.reset(token)
