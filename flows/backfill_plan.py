"""What a backfill has to do, from what lies on the storage and what ran before: pure functions.

A night is inspected once for each configuration: what is sealed stays, what is running is waited for, what failed gets
another attempt.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cached_property
from uuid import UUID

from flows.line import Line
from ssdnet_core.config import Config
from ssdnet_core.errors import UsageError
from tasks.nights import Night
from tasks.seal import Seal

KEY_PREFIX = "backfill|"


class BackfillError(UsageError, ValueError):
    """A backfill was asked for with days, lines or deployments that make no sense."""


class NightState(StrEnum):
    """How a night stands."""

    SEALED = "sealed"
    NEW_IMAGES = "new images"
    PASSING_FAILURES = "passing failures"
    NO_IMAGES = "no images"
    TO_DO = "to do"
    FAILED = "failed"
    RUNNING = "running"
    SCHEDULED = "scheduled"


class RunState(StrEnum):
    """How a run of a night stands; a scheduled one has its time still to come."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class NightRun:
    """A run that a night had before.

    Attributes
    ----------
    id
        Id of the flow run.
    day, fingerprint
        Day of the night, and fingerprint of the configuration that the run was given.
    state
        How it stands.
    attempt
        Its number among the attempts of backfills, 0 for a run that no backfill started.
    elsewhere
        Whether it had another line, other images or other results than its deployment has now: it leaves no seal here,
        but the number of its attempt is taken.
    refit
        Whether it inspects every image again.
    """

    id: UUID
    day: date
    fingerprint: str
    state: RunState
    attempt: int = 0
    elsewhere: bool = False
    refit: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredNight:
    """What the storage knows of a night: its images, and its seal if it is finished.

    Attributes
    ----------
    images
        Number of images it has now.
    seal
        Seal of the configuration asked for; None if there is none.
    problem
        Why its images cannot be inspected, else empty; its run will say so, too.
    hopeless
        Whether no run is worth starting: its line has no folder at all, or the storage does not answer.
    """

    images: int
    seal: Seal | None = None
    problem: str = ""
    hopeless: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedNight:
    """A night, how it stands, and what is done about it.

    Attributes
    ----------
    line
        The line through whose deployment it is inspected.
    config
        Settings that it is inspected with: the line's own, or what was asked for instead.
    images
        Number of images it has.
    state
        How it stands before.
    attempt
        Number of the attempt to start; 0 if none is started.
    run
        The run to wait for, if one is under way.
    seal
        Its batch's seal, if it was sealed with these settings before.
    reason
        Why it is given up, else empty.
    """

    line: Line
    config: Config
    night: Night
    images: int
    state: NightState
    attempt: int = 0
    run: UUID | None = None
    seal: Seal | None = None
    reason: str = ""

    @property
    def deployment(self) -> str:
        """Through which it is inspected, as ``nightly/line-1``."""
        return self.line.deployment

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of its configuration; empty if no night can run through its line."""
        return "" if self.line.problem else self.config.fingerprint()

    @property
    def waits(self) -> bool:
        """Whether a run is started or waited for."""
        return self.attempt > 0 or self.run is not None

    @property
    def todo(self) -> str:
        """What is done about it, in words."""
        if self.run is not None:
            return "wait for it"
        if self.attempt:
            start = "start" if self.attempt == 1 else f"start attempt {self.attempt}"
            return f"{start}, after the run that is under way" if self.state is NightState.RUNNING else start
        return "leave it to the run that is planned" if self.state is NightState.SCHEDULED else "nothing"

    @property
    def action(self) -> str:
        """What is done about it, with the reason if it is given up."""
        return f"{self.todo}: {self.reason}" if self.reason else self.todo


def plan_nights(
    line: Line,
    stored: Mapping[Night, StoredNight],
    *,
    config: Config,
    runs: Iterable[NightRun],
    force: bool = False,
) -> tuple[PlannedNight, ...]:
    """Plan the nights of one line, in their order.

    Parameters
    ----------
    stored
        Every night asked for.
    config
        Settings that the nights are inspected with.
    runs
        The line's runs so far, oldest first; those of other days and other configurations are passed over.
    force
        Inspect what is sealed as well.
    """
    by_day: dict[date, list[NightRun]] = {}
    fingerprint = config.fingerprint()
    for run in runs:
        if run.fingerprint == fingerprint:
            by_day.setdefault(run.day, []).append(run)
    return tuple(
        _plan(
            PlannedNight(
                line=line,
                config=config,
                night=night,
                images=there.images,
                state=NightState.TO_DO,
                seal=there.seal,
            ),
            by_day.get(night.day, []),
            there=there,
            force=force,
        )
        for night, there in stored.items()
    )


def without_runs(nights: Iterable[PlannedNight], reason: str) -> tuple[PlannedNight, ...]:
    """Give up the nights that would be started or waited for; the others stand as they do."""
    return tuple(
        replace(night, state=NightState.FAILED, attempt=0, run=None, reason=reason) if night.waits else night
        for night in nights
    )


def startable(todo: Iterable[PlannedNight], active: Iterable[PlannedNight], *, at_most: int) -> list[PlannedNight]:
    """Return which nights to start now: at most ``at_most`` at once, of a deployment at most its own limit.

    More would only queue at the deployment, ahead of the run that its schedule starts.
    """
    running = [night.line for night in active]
    chosen: list[PlannedNight] = []
    for night in todo:
        if len(running) >= at_most:
            break
        limit = night.line.limit
        if limit is None or running.count(night.line) < limit:
            running.append(night.line)
            chosen.append(night)
    return chosen


def interleaved(plans: Iterable[Sequence[PlannedNight]]) -> list[PlannedNight]:
    """Put the plans of several lines together: by day, so that the lines come along side by side."""
    return sorted(
        (planned for plan in plans for planned in plan), key=lambda planned: (planned.night.day, planned.deployment)
    )


def attempt_key(deployment: str, day: date, *, fingerprint: str, attempt: int, refit: bool) -> str:
    """Return the idempotency key of an attempt: if two backfills start it at once, it becomes one run.

    With ``refit`` the key differs: a run that keeps earlier results must not pass for one that refits.
    """
    return f"{KEY_PREFIX}{deployment}|{day.isoformat()}|{fingerprint}|{'refit|' if refit else ''}{attempt}"


def attempt_of(key: str | None) -> int:
    """Return the attempt that an idempotency key is of; 0 if it is no backfill's."""
    head, _, attempt = (key or "").rpartition("|")
    return int(attempt) if head.startswith(KEY_PREFIX) and attempt.isdecimal() else 0


def _plan(night: PlannedNight, runs: Collection[NightRun], *, there: StoredNight, force: bool) -> PlannedNight:
    own = [run for run in runs if not run.elsewhere]
    forced = force and night.images > 0
    under_way = [run for run in own if run.state is RunState.RUNNING]
    # A run that keeps earlier results does not inspect every image again.
    running = next((run for run in under_way if run.refit or not forced), None)
    if running:
        return replace(night, state=NightState.RUNNING, run=running.id)
    if not forced and any(run.state is RunState.SCHEDULED for run in own):
        return replace(night, state=NightState.SCHEDULED)
    last_failed = bool(own) and own[-1].state is RunState.FAILED
    sealed = _sealed_state(night.seal, night.images, failed=last_failed) if night.seal else None
    if sealed is NightState.SEALED and not forced:
        return replace(night, state=sealed)
    if there.hopeless:
        return replace(night, state=NightState.FAILED, reason=there.problem)
    if not night.images and not there.problem:
        return replace(night, state=NightState.NO_IMAGES)
    # Some runs may have been deleted from the server: those that are left say which numbers are taken.
    attempt = max([len(runs), *(run.attempt for run in runs)]) + 1
    open_state = NightState.FAILED if any(run.state is RunState.FAILED for run in own) else NightState.TO_DO
    return replace(night, state=NightState.RUNNING if under_way else sealed or open_state, attempt=attempt)


def _sealed_state(seal: Seal, images: int, *, failed: bool) -> NightState:
    if images > seal.images:
        return NightState.NEW_IMAGES
    if failed and images:
        return NightState.FAILED  # After its seal: its metrics or its comparison may be missing.
    return NightState.PASSING_FAILURES if seal.passing and images else NightState.SEALED
