"""What a backfill shows of the runs that it waits for, and when it hints that no worker takes them."""

from collections.abc import Collection, Mapping
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from flows.backfill_plan import PlannedNight
from flows.progress import observer

UNTAKEN_SECONDS = 120.0
"""How long all runs may stay scheduled: a worker asks for them every few seconds."""


class Watch:
    """Shows how the nights stand, and hints once if no worker takes any of their runs."""

    def __init__(self) -> None:
        self._untaken_since: float | None = None
        self._hinted = False

    def show(
        self, active: Mapping[UUID, PlannedNight], runs: Mapping[UUID, FlowRun], *, done: int, nights: int
    ) -> None:
        """Show which nights are running, and in which states the others' runs are."""
        running, queued = [], []
        for run, night in active.items():
            state = runs[run].state if run in runs else None
            if state is None or state.is_running():
                running.append(str(night.night))
            else:
                queued.append(f"{night.night} ({state.name})")
        observer().waiting(done=done, nights=nights, running=running, queued=queued)

    def hint(self, runs: Collection[FlowRun], *, pools: Collection[str], now: float) -> str:
        """Return a hint, once, if no run has been taken for `UNTAKEN_SECONDS`; else an empty text."""
        if not runs or not all(run.state is None or run.state.is_scheduled() for run in runs):
            self._untaken_since = None
            return ""
        if self._untaken_since is None:
            self._untaken_since = now
        if self._hinted or now - self._untaken_since < UNTAKEN_SECONDS:
            return ""
        self._hinted = True
        named = " and ".join(repr(pool) for pool in sorted(pools))
        return (
            f"none of its runs was taken in {UNTAKEN_SECONDS:.0f} s: is a worker of the work pool {named} started, is "
            "the pool paused, or do other runs take up its limit or that of the line?"
        )
