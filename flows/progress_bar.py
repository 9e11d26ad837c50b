"""The progress of a run on a terminal: rate, time left, defects and failures so far."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from flows.progress import Observer
from tasks.records import ImageRecord
from tasks.words import counted

LOG_EVERY = 30.0


class ProgressBar(Observer):
    """An observer that draws; where there is no terminal, it prints a line now and then.

    Parameters
    ----------
    shown
        False for silence.
    """

    def __init__(self, *, shown: bool = True) -> None:
        console = Console(file=sys.stderr)
        self._shown = shown
        # Not rich's is_terminal, which forced colours make true; a dumb one cannot draw.
        drawn = sys.stderr.isatty() and not console.is_dumb_terminal
        self._lines = shown and not drawn
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not shown or self._lines,
            transient=True,
        )
        self._bar = self._progress.add_task("starting", total=None, figures="")
        self._images = self._settled = self._done = self._defective = self._failed = 0
        self._begun = self._last_line = time.monotonic()
        self._waited_for = (0, "")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        """Show another stage."""
        if name == "inspecting":
            self._begun = self._last_line = time.monotonic()
        self._progress.update(self._bar, description=name)
        self._line(name)

    def begin(self, *, images: int, settled: int) -> None:
        """Show how much there is to do."""
        self._images, self._settled = images, settled
        self._progress.update(self._bar, total=images, completed=settled)
        self._line(f"{counted(images, 'image')}, {settled} done before")

    def inspected(self, record: ImageRecord) -> None:
        """Count one more image."""
        self._done += 1
        self._defective += record.defective
        self._failed += record.failed
        done = self._settled + self._done
        self._progress.update(self._bar, completed=done, figures=self._figures())
        if time.monotonic() - self._last_line > LOG_EVERY:
            self._last_line = time.monotonic()
            self._line(f"{done} of {self._images}, {self._figures()}")

    def waiting(self, *, done: int, nights: int, running: Sequence[str], queued: Sequence[str]) -> None:
        """Show the nights of a backfill."""
        told = {"running": running, "not running": queued}
        text = "; ".join(f"{name}: {', '.join(those)}" for name, those in told.items() if those)
        self._progress.update(self._bar, total=nights, completed=done, description="nights", figures=text)
        if (done, text) != self._waited_for:
            self._waited_for = (done, text)
            self._line(f"{done} of {nights} nights done, {text}")

    def hint(self, text: str) -> None:
        """Print what somebody may have to look at, above the bar."""
        self._line(text)
        if not self._progress.disable:
            self._progress.console.print(f"ssdnet: {text}", markup=False, highlight=False)

    def _figures(self) -> str:
        seconds = time.monotonic() - self._begun
        rate = self._done / max(seconds, 1e-3)
        left = (self._images - self._settled - self._done) / max(rate, 1e-6)
        counts = f"{self._defective} defective, {self._failed} failed"
        return f"{rate:.2f}/s, {_clock(left)} left, {counts}{' in this run' if self._settled else ''}"

    def _line(self, text: str) -> None:
        if self._lines:
            try:
                sys.stderr.write(f"ssdnet: {text}\n")
            except OSError:
                self._lines = False  # Nobody listens any more, as behind `2>&1 | head`: the batch goes on.


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
