"""What the lines' deployments, their runs and the storage say of the nights of a backfill; changes nothing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from flows.deployed_lines import find_lines
from flows.line import Line
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


def plan_backfill(
    days: Days,
    *,
    lines: Sequence[str] | None = None,
    deployments: Sequence[str] | None = None,
    force: bool = False,
    config: Config | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[PlannedNight, ...]:
    """Look at the lines' deployments, runs and storage, and plan what to do: each night, by day, then by line.

    If all deployed lines are asked for, one line must not keep the others from running. Its nights are given up if it
    has no folder of images, its storage is away, or no night can run through its deployment; so is a night that is
    over for others, but not yet in its own time zone.

    Parameters
    ----------
    days
        Asked for.
    lines, deployments, force, config, changes
        As of :func:`flows.backfill.backfill`.

    Raises
    ------
    BackfillError
        If the days or lines make no sense, two deployments would inspect one batch, or a line that was asked for by
        name, or else every line, has a day that is not over or a deployment through which no night can run.
    NoPrefectApiError
        If there is no Prefect server.
    StorageError
        If images of a line that was asked for by name, or of the only one, cannot be listed, or its seals not be read;
        a `NoSuchLineError` if it has no folder of images.
    """
    observer().stage("looking at the nights")
    found = find_lines(lines or (), deployments or ())
    configs = {line: (config or line.config).updated(dict(changes or {})) for line in found if not line.problem}
    _refuse_shared_batches(configs)
    away_ok = not (lines or deployments) and len(found) > 1
    now = datetime.now(UTC)
    newest = {line: day_before(now, line.timezone) for line in configs}
    for line in configs:
        if days.end is not None and days.end > (max(newest.values()) if away_ok else newest[line]):
            raise BackfillError(_not_over(line, days.end, newest=newest[line]))
    plans = [
        _planned(line, days, newest=newest[line], config=configs[line], force=force, away_ok=away_ok)
        if line in configs
        else _given_up(line, days)
        for line in found
    ]
    return tuple(interleaved(plans))


def _planned(
    line: Line, asked: Days, *, newest: date, config: Config, force: bool, away_ok: bool
) -> tuple[PlannedNight, ...]:
    days = asked.until(newest)
    late = tuple(
        _lost(line, day, config=config, reason=_not_over(line, day, newest=newest)) for day in asked.after(newest)
    )
    if not days:
        return late
    # Runs before storage: if one ends in between, it is waited for needlessly, but its seal is not missed.
    runs = read_runs(line, start=days[0])
    stored = _look_at_storage(line, days, fingerprint=config.fingerprint(), away_ok=away_ok)
    nights = plan_nights(line, stored, config=config, runs=runs, force=force)
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
    return tuple(_lost(line, day, config=line.config, reason=line.problem) for day in asked.until(newest))


def _lost(line: Line, day: date, *, config: Config, reason: str) -> PlannedNight:
    return PlannedNight(
        line=line, config=config, night=Night(line.name, day), images=0, state=NightState.FAILED, reason=reason
    )


def _refuse_shared_batches(configs: Mapping[Line, Config]) -> None:
    """Refuse lines whose runs would work on the same batch, and take it from each other."""
    by_batch: dict[tuple[str, str, str], str] = {}
    for line, config in configs.items():
        batch = line.name, Storage(line.results).address, config.fingerprint()
        if batch in by_batch:
            raise BackfillError(
                f"line {line.name!r} has several deployments with the same results and settings, {by_batch[batch]}, "
                f"{line.deployment}: name one of them with --deployment instead"
            )
        by_batch[batch] = line.deployment


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
