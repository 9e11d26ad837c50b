"""What ``ssdnet backfill`` prints: the plan, and what became of it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.backfill import NightOutcome, outcome_row
from flows.backfill_plan import NightState, PlannedNight
from tasks.nights import Night
from tasks.report import report_address
from tasks.seal import Seal
from tasks.storage import Storage
from tasks.words import counted

STYLES: dict[str, str] = {
    NightState.SEALED: "green",
    NightState.FAILED: "red",
    NightState.RUNNING: "cyan",
    NightState.SCHEDULED: "cyan",
    NightState.NO_IMAGES: "yellow",
    NightState.NEW_IMAGES: "bold",
    NightState.PASSING_FAILURES: "bold",
    NightState.TO_DO: "bold",
}
NUMBERS = {"images", "defective", "not inspected"}
WHOLE = {"day", "images", "defective"}
"""Columns that are never folded; lines, states and what is to do take several rows where they must."""
WIDE = 100
"""Columns of a terminal from which the outcome also has how each night stood before."""


def print_plan(nights: Sequence[PlannedNight], *, as_json: bool) -> None:
    """Print what a backfill would do."""
    if as_json:
        _print_json([planned_tree(night) for night in nights])
        return
    starts = sum(night.attempt > 0 for night in nights)
    title = f"{counted(len(nights), 'night')}, {starts} of them to start"
    label = _labels(nights)
    _print_table([{**_night_cells(night, label), **_planned_cells(night)} for night in nights], title=title)
    _print_reasons((label(night), night.night, night.reason) for night in nights)


def print_outcomes(outcomes: Sequence[NightOutcome], *, as_json: bool) -> None:
    """Print what became of the nights."""
    if as_json:
        _print_json([outcome_tree(outcome) for outcome in outcomes])
        return
    sealed = sum(outcome.state is NightState.SEALED for outcome in outcomes)
    title = f"{counted(len(outcomes), 'night')}, {sealed} of them sealed"
    label, width = _labels([outcome.planned for outcome in outcomes]), Console().width
    rows = [{**_night_cells(outcome.planned, label), **_outcome_cells(outcome, width=width)} for outcome in outcomes]
    _print_table(rows, title=title)
    _print_reasons((label(outcome.planned), outcome.planned.night, outcome.reason) for outcome in outcomes)


def planned_tree(planned: PlannedNight) -> dict[str, Any]:
    """Return a planned night as plain data."""
    return {
        "deployment": planned.deployment,
        "line": planned.night.line,
        "day": planned.night.day.isoformat(),
        **_places(planned, planned.seal),
        "fingerprint": planned.fingerprint,
        "images": planned.images,
        "state": planned.state,
        "action": planned.action,
        "reason": planned.reason,
        "attempt": planned.attempt,
        "run": str(planned.run) if planned.run else None,
    }


def outcome_tree(outcome: NightOutcome) -> dict[str, Any]:
    """Return an outcome as plain data."""
    return {
        **planned_tree(outcome.planned),
        **_places(outcome.planned, outcome.seal),
        "before": outcome.planned.state,
        "state": outcome.state,
        "run": str(outcome.run) if outcome.run else None,
        "reason": outcome.reason,
        "seal": asdict(outcome.seal) if outcome.seal else None,
    }


def _places(planned: PlannedNight, seal: Seal | None) -> dict[str, str | None]:
    """Return the name of a night's batch, and the addresses of its folder and gallery once it is sealed.

    Before, nobody knows whether it gets the plain name, which may be taken by other settings.
    """
    if seal is None:
        return {"batch": planned.night.batch, "folder": None, "report": None}
    folder = Storage(planned.line.results).below(seal.batch)
    return {"batch": seal.batch, "folder": folder.address, "report": report_address(folder)}


def _print_json(nights: list[dict[str, Any]]) -> None:
    print(json.dumps({"nights": nights}, indent=1))


def _planned_cells(planned: PlannedNight) -> dict[str, str]:
    # Why a night is given up stands below the table.
    return {"state": planned.state, "images": str(planned.images), "to do": planned.todo}


def _outcome_cells(outcome: NightOutcome, *, width: int) -> dict[str, str]:
    before = {"before": outcome.planned.state} if width >= WIDE else {}
    figures = {name: value for name, value in outcome_row(outcome).items() if name in NUMBERS}
    return {**before, "now": outcome.state, **figures}


def _night_cells(planned: PlannedNight, label: Callable[[PlannedNight], str]) -> dict[str, str]:
    return {"line": label(planned), "day": planned.night.day.isoformat()}


def _labels(nights: Iterable[PlannedNight]) -> Callable[[PlannedNight], str]:
    """Return how a night's line is called: with its deployment where the line is inspected by several."""
    deployments: dict[str, set[str]] = {}
    for planned in nights:
        deployments.setdefault(planned.night.line, set()).add(planned.deployment)

    def label(planned: PlannedNight) -> str:
        line = planned.night.line
        return f"{line} ({planned.deployment})" if len(deployments[line]) > 1 else line

    return label


def _print_table(rows: Sequence[Mapping[str, str]], *, title: str) -> None:
    table = Table(title=title)
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold", no_wrap=name in WHOLE)
    for row in rows:
        # Text, not markup: a line's name may hold brackets.
        table.add_row(*(Text(value, style=STYLES.get(value, "")) for value in row.values()))
    Console().print(table)


def _print_reasons(nights: Iterable[tuple[str, Night, str]]) -> None:
    """Print why nights failed below their table, once for all nights of a line that have the same reason."""
    alike: dict[tuple[str, str], list[Night]] = {}
    for line, night, reason in nights:
        if reason:
            alike.setdefault((line, reason), []).append(night)
    for (line, reason), failed in alike.items():
        days = f"{failed[0].day}" if len(failed) == 1 else f"{len(failed)} nights, {failed[0].day} to {failed[-1].day}"
        # Never broken, so that addresses can be copied.
        Console().print(Text(f"{line} {days}: {reason}"), soft_wrap=True)
