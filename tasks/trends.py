"""The table of a line: the figures of each night, and whether it departs from the nights before it.

``RESULTS/trends/LINE.parquet`` is nothing but a collection of what the batches keep (:mod:`tasks.night_figures`). It
can be deleted and is made again, but for nights that were archived; removing a batch's folder removes its row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tasks.batch import TRENDS
from tasks.departure import LEAST_NIGHTS, MOST_NIGHTS_COMPARED, Departure, quantile_departure, rate_departure
from tasks.night_figures import SCORE_PROBABILITIES, NightFigures
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError

COMPARED = ("score_q25", "score_q50", "score_q75")
"""Quantiles that are watched for drift; what lies above is a matter of single defects, hence of the defect rate."""


@dataclass(frozen=True)
class TrendRow:
    """A night beside the nights before it.

    Attributes
    ----------
    figures
        The night's figures.
    rate
        Its defect rate beside those of the trailing nights; None if these are too few, or no image was inspected.
    scores
        Its quantiles likewise, by name: all those in `COMPARED`, or none.
    """

    figures: NightFigures
    rate: Departure | None
    scores: Mapping[str, Departure]

    @property
    def jump(self) -> bool:
        """Whether the defect rate is out of the ordinary."""
        return self.rate is not None and self.rate.flagged

    @property
    def drift(self) -> bool:
        """Whether the distribution of the scores is out of the ordinary."""
        return any(departure.flagged for departure in self.scores.values())


@dataclass(frozen=True)
class Trends:
    """What is known of a line's nights, and where it is written."""

    rows: list[TrendRow]
    table: str
    page: str


def compare_nights(nights: Sequence[NightFigures]) -> list[TrendRow]:
    """Set each night beside the at most 28 before it that were inspected with the same settings."""
    return [TrendRow(night, rate=_rate(night, nights), scores=_scores(night, nights)) for night in nights]


def latest_settings(rows: Sequence[TrendRow]) -> str:
    """Return the fingerprint of the settings of the latest night; of one under several, of the last by its batch."""
    return rows[-1].figures.fingerprint


def settings_names(rows: Iterable[TrendRow]) -> dict[str, str]:
    """Return the settings of the nights by their fingerprints, in words as far as they are known, with the fingerprint.

    The order is that of the nights, and of their batches' names.
    """
    words: dict[str, str] = {}
    for row in rows:
        night = row.figures
        words[night.fingerprint] = night.settings or words.get(night.fingerprint, "")
    return {fingerprint: f"{told} ({fingerprint})" if told else fingerprint for fingerprint, told in words.items()}


def _rate(night: NightFigures, nights: Sequence[NightFigures]) -> Departure | None:
    before = _before(night, nights, needed="defect_rate")
    counts = [(earlier.defective, earlier.inspected) for earlier in before]
    return rate_departure((night.defective, night.inspected), counts) if before else None


def _scores(night: NightFigures, nights: Sequence[NightFigures]) -> dict[str, Departure]:
    before = _before(night, nights, needed="score_q50")
    if not before:
        return {}
    quantiles = {name: [_number(earlier, name) for earlier in before] for name in COMPARED}
    width = float(np.median(np.subtract(quantiles["score_q75"], quantiles["score_q25"])))
    return {
        name: quantile_departure(_number(night, name), trailing, images=night.inspected, width=width)
        for name, trailing in quantiles.items()
    }


def _before(night: NightFigures, nights: Sequence[NightFigures], *, needed: str) -> list[NightFigures]:
    """Return the nights to compare one with, none of them if they are too few or it has nothing to compare."""
    before = [
        earlier
        for earlier in nights
        if earlier.day < night.day and earlier.fingerprint == night.fingerprint and getattr(earlier, needed) is not None
    ][-MOST_NIGHTS_COMPARED:]
    return before if len(before) >= LEAST_NIGHTS and getattr(night, needed) is not None else []


def remarks(row: TrendRow) -> list[str]:
    """Say what is out of the ordinary about a night, each with what was to be expected."""
    said = []
    if row.rate and row.jump:
        rate = 100 * row.figures.defective / row.figures.inspected
        said.append(
            f"defect rate {rate:.1f} % (expected {100 * row.rate.lowest:.1f} to {100 * row.rate.highest:.1f} %)"
        )
    for name, departure in row.scores.items():
        if departure.flagged:
            said.append(
                f"{100 * SCORE_PROBABILITIES[name]:.0f} % quantile of the scores {_number(row.figures, name):z.2f} "
                f"(expected {departure.lowest:z.2f} to {departure.highest:z.2f})"
            )
    return said


def table_of(rows: Iterable[TrendRow]) -> pa.Table:
    """Return the rows as a table: the figures, the bounds of the ordinary, and the flags."""
    return pa.Table.from_pylist([_flat(row) for row in rows], schema=_SCHEMA)


def table_key(line: str) -> str:
    """Return where a line's table lies below the results."""
    return f"{TRENDS}/{line}.parquet"


def write_table(results: Storage, line: str, *, rows: Iterable[TrendRow]) -> None:
    """Write a line's table, replacing the earlier one as a whole."""
    buffer = pa.BufferOutputStream()
    parquet.write_table(table_of(rows), buffer)
    results.write(table_key(line), buffer.getvalue().to_pybytes())


def read_table(results: Storage, line: str) -> list[NightFigures]:
    """Return the nights of a line's table; none if it is missing, damaged, or another kind of table.

    Figures that an earlier version did not write yet are None.

    Raises
    ------
    StorageError
        If the store does not give a table that it has.
    """
    try:
        content = results.read(table_key(line))
    except MissingObjectError:
        return []
    try:
        table = parquet.read_table(pa.BufferReader(content))
        names = [field.name for field in fields(NightFigures) if field.name in table.column_names]
        return [NightFigures(**row) for row in table.select(names).to_pylist()]
    # Of a damaged file, Parquet raises an OSError as well.
    except (pa.ArrowException, OSError, LookupError, TypeError):
        return []  # Written anew in a moment.


def _number(night: NightFigures, name: str) -> float:
    return float(getattr(night, name))


def _flat(row: TrendRow) -> dict[str, Any]:
    bounds = {"defect_rate": row.rate} if row.rate else {}
    return {
        **asdict(row.figures),
        **dict(_bounds({**bounds, **row.scores})),
        "jump": row.jump,
        "drift": row.drift,
    }


def _bounds(departures: Mapping[str, Departure]) -> Iterator[tuple[str, float]]:
    for name, departure in departures.items():
        yield f"{name}_lowest", departure.lowest
        yield f"{name}_usual", departure.middle
        yield f"{name}_highest", departure.highest


_TYPES: dict[Any, pa.DataType] = {date: pa.date32(), str: pa.string(), int: pa.int64()}
_SCHEMA = pa.schema(
    [
        *((field.name, _TYPES.get(field.type, pa.float64())) for field in fields(NightFigures)),
        *(
            (f"{name}_{bound}", pa.float64())
            for name in ("defect_rate", *COMPARED)
            for bound in ("lowest", "usual", "highest")
        ),
        ("jump", pa.bool_()),
        ("drift", pa.bool_()),
    ]
)
