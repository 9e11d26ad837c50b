"""What the lines' deployments, their runs and the storage say of the nights of a backfill; changes nothing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from flows.backfill_days import Days
from flows.backfill_plan import (
    BackfillError,
    NightState,
    PlannedNight,
    StoredNight,
    interleaved,
    plan_nights,
    without_runs,
)
from flows.deployed_lines import Line, find_lines
from flows.night_runs import read_runs
from flows.progress import observer
from ssdnet_core.config import Config
from tasks.discovery import NothingToInspectError
from tasks.finished_batch import find_seal
from tasks.nights import Night, NoSuchLineError, count_images, day_before, days_on_storage
from tasks.storage import Storage
from tasks.storage_answers import NoAnswerError, StorageError

LISTINGS = 8
"""Nights listed side by side."""


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill has to do.

    Attributes
    ----------
    lines
        By the name of their deployment.
    configs
        What each inspects the nights with: its own settings, or those asked for instead.
    nights
        By day, then by line.
    """

    lines: Mapping[str, Line]
    configs: Mapping[str, Config]
    nights: tuple[PlannedNight, ...]


def plan_backfill(
    days: Days,
    *,
    lines: Sequence[str] | None = None,
    deployments: Sequence[str] | None = None,
    force: bool = False,
    config: Config | None = None,
    changes: Mapping[str, Any] | None = None,
) -> BackfillPlan:
    """Look at the lines' deployments, runs and storage, and plan what to do.

    Where all lines that are deployed were asked for, one that has no folder of images, whose storage is away, or a
    deployment through which no night can run, has its nights given up, and one in whose time zone a night that is over
    for others is not has that one given up: it must not keep the others from running.

    Parameters
    ----------
    days
        Asked for.
    lines, deployments, force, config, changes
        As of :func:`flows.backfill.backfill`.

    Raises
    ------
    BackfillError
        If the days or lines make no sense, a day is not over for a line that was asked for by name, or for any, two
        deployments would inspect one batch, or no night can run through a deployment that was asked for by name, or
        through any.
    NoPrefectApiError
        If there is no Prefect server.
    StorageError
        If images of a line that was asked for by name, or of the only one, cannot be listed, or its seals not be read;
        a `NoSuchLineError` if it has no folder of images.
    """
    observer().stage("looking at the nights")
    found = find_lines(lines or (), deployments or ())
    usable = {line.deployment: line for line in found if not line.problem}
    configs = {name: (config or line.config).updated(dict(changes or {})) for name, line in usable.items()}
    _refuse_shared_batches(usable, configs)
    away_ok = not (lines or deployments) and len(found) > 1
    now = datetime.now(UTC)
    newest = {name: day_before(now, line.timezone) for name, line in usable.items()}
    for name, line in usable.items():
        if days.end is not None and days.end > (max(newest.values()) if away_ok else newest[name]):
            raise BackfillError(_not_over(line, days.end, newest=newest[name]))
    plans = [
        _planned(
            line,
            days,
            newest=newest[line.deployment],
            config=configs[line.deployment],
            force=force,
            away_ok=away_ok,
        )
        if line.deployment in usable
        else _given_up(line, days)
        for line in found
    ]
    return BackfillPlan(usable, configs, tuple(interleaved(plans)))


def _planned(
    line: Line, asked: Days, *, newest: date, config: Config, force: bool, away_ok: bool
) -> tuple[PlannedNight, ...]:
    days, fingerprint = asked.until(newest), config.fingerprint()
    late = tuple(
        PlannedNight(
            deployment=line.deployment,
            night=Night(line.name, day),
            fingerprint=fingerprint,
            images=0,
            state=NightState.FAILED,
            reason=_not_over(line, day, newest=newest),
        )
        for day in asked.after(newest)
    )
    if not days:
        return late
    # Runs before storage: if one ends in between, it is waited for needlessly, but its seal is not missed.
    runs = read_runs(line, start=days[0])
    stored = _look_at_storage(line, days, fingerprint=fingerprint, away_ok=away_ok)
    nights = plan_nights(line.deployment, stored, runs=runs, fingerprint=fingerprint, force=force)
    if line.limit == 0:
        nights = without_runs(
            nights, f"deployment {line.deployment} has a concurrency limit of 0, so none of its runs starts: raise it"
        )
    return nights + late


def _not_over(line: Line, day: date, *, newest: date) -> str:
    return (
        f"{day} is not over yet for line {line.name!r}, whose time zone is {line.timezone}: its last night is {newest}"
    )


def _given_up(line: Line, asked: Days) -> tuple[PlannedNight, ...]:
    # Its time zone may be what is wrong with it.
    newest = asked.end or day_before(datetime.now(UTC), "UTC")
    return tuple(
        PlannedNight(
            deployment=line.deployment,
            night=Night(line.name, day),
            fingerprint="",
            images=0,
            state=NightState.FAILED,
            reason=line.problem,
        )
        for day in asked.until(newest)
    )


def _refuse_shared_batches(lines: Mapping[str, Line], configs: Mapping[str, Config]) -> None:
    """Refuse lines whose runs would work on the same batch, and take it from each other."""
    by_batch: dict[tuple[str, str, str], str] = {}
    for name, line in lines.items():
        batch = line.name, Storage(line.results).address, configs[name].fingerprint()
        if batch in by_batch:
            raise BackfillError(
                f"line {line.name!r} has several deployments with the same results and settings, {by_batch[batch]}, "
                f"{name}: name one of them with --deployment instead"
            )
        by_batch[batch] = name


def _look_at_storage(line: Line, days: Sequence[date], *, fingerprint: str, away_ok: bool) -> dict[Night, StoredNight]:
    """Look at each night of a line; once its storage does not answer, give up those that are not looked at yet.

    Raises
    ------
    StorageError
        If the storage fails and that is not ``away_ok``.
    """
    results, there, no_line, away = Storage(line.results), frozenset[str](), "", ""
    try:
        there = days_on_storage(line.images, line.name)
    except StorageError as error:
        if not away_ok:
            raise
        if isinstance(error, NoSuchLineError):
            no_line = str(error)
        else:
            away = str(error)

    def look(night: Night) -> StoredNight:
        nonlocal away
        if away:
            # Each request to a dead store waits for its timeout, and images and results mostly lie in one store: a year
            # of nights would hold up the other lines for minutes.
            return StoredNight(images=0, seal=None, problem=away, hopeless=True)
        seal, images = None, 0
        try:
            seal = find_seal(results, night.batch, fingerprint=fingerprint)
            images = 0 if no_line else count_images(line.images, night, days=there)
        except NothingToInspectError as error:
            return StoredNight(images=0, seal=seal, problem=str(error))
        except StorageError as error:
            if not away_ok:
                raise
            if isinstance(error, NoAnswerError):
                away = str(error)
            return StoredNight(images=0, seal=seal, problem=str(error), hopeless=True)
        return StoredNight(images=images, seal=seal, problem=no_line, hopeless=bool(no_line))

    nights = [Night(line.name, day) for day in days]
    with ThreadPoolExecutor(LISTINGS) as threads:
        return dict(zip(nights, threads.map(look, nights), strict=True))
