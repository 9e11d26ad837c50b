"""Who is told how a run comes along: the bar of the command line, the page of the run, or nobody."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from tasks.records import ImageRecord


class Observer:
    """What wants to know; of what it does not take up, nothing comes."""

    def begin(self, *, images: int, settled: int) -> None:
        """Tell that ``settled`` of the batch's images need no inspection."""

    def inspected(self, record: ImageRecord) -> None:
        """Tell that one more image is done."""

    def stage(self, name: str) -> None:
        """Tell that the run has come to another of its stages."""

    def waiting(self, *, done: int, nights: int, running: Sequence[str], queued: Sequence[str]) -> None:
        """Tell which nights of a backfill are running, or stand how, and how many of all need no more waiting."""

    def hint(self, text: str) -> None:
        """Tell what somebody may have to look at."""

    def ended(self, result: object) -> None:
        """Tell what the run returns, before its server has taken note of it."""


class Results(Observer):
    """Keeps what the runs of a block returned: it is the last that a run tells before its end is reported."""

    def __init__(self) -> None:
        self.all: list[object] = []

    def ended(self, result: object) -> None:
        """Keep it."""
        self.all.append(result)


class _Everyone(Observer):
    """Passes on to all who watch; there may be none."""

    def __init__(self, watchers: tuple[Observer, ...]) -> None:
        self._watchers = watchers

    def begin(self, *, images: int, settled: int) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.begin(images=images, settled=settled)

    def inspected(self, record: ImageRecord) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.inspected(record)

    def stage(self, name: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.stage(name)

    def waiting(self, *, done: int, nights: int, running: Sequence[str], queued: Sequence[str]) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.waiting(done=done, nights=nights, running=running, queued=queued)

    def hint(self, text: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.hint(text)

    def ended(self, result: object) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.ended(result)


# A flow's parameters must be data, for the server and the UI: its observers reach it by context.
_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


def observer() -> Observer:
    """Return who watches this run, as one."""
    return _Everyone(_observers.get())


@contextmanager
def observed_by(watcher: Observer) -> Iterator[None]:
    """Tell ``watcher``, too, of the runs inside the block."""
    token = _observers.set((*_observers.get(), watcher))
    try:
        yield
    finally:
        _observers.reset(token)
