"""The nights of a line in figures: one row each, kept beside the night's results, and their table.

A night's figures are a small object in the folder of its batch, ``trend.json``, made once from the batch's store. The
table of a line, ``RESULTS/trends/LINE.parquet``, is nothing but their collection with what follows from the order of
the nights: whether one departs from those before it. It can be deleted and is made again; removing a batch's folder
removes its row.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tasks.batch import SEAL, TREND
from tasks.departure import LEAST, TRAILING, Departure, quantile_departure, rate_departure
from tasks.maps import STATUSES, read_figures
from tasks.measured import EVALUATION
from tasks.nights import Night, night_of
from tasks.seal import Seal, parse_seal
from tasks.storage import MissingObjectError, Storage, StorageError

TRENDS = "trends"
SCORE_PROBABILITIES = {
    "score_q10": 0.10,
    "score_q25": 0.25,
    "score_q50": 0.50,
    "score_q75": 0.75,
    "score_q90": 0.90,
    "score_q99": 0.99,
}
COMPARED = ("score_q25", "score_q50", "score_q75")
"""Quantiles that are watched for drift; what lies above is a matter of single defects, hence of the defect rate."""

MEASURED = ("auroc", "average_precision", "aupro", "image_auroc")


@dataclass(frozen=True, kw_only=True)
class NightFigures:
    """A sealed night in figures; None where undefined, as scores of no image, or not measured.

    Attributes
    ----------
    day, batch, fingerprint, digest
        Which night it is, under which settings; the digest is that of its seal.
    images, inspected, failed, defective
        Counts, as in the seal.
    defect_rate
        Defective over inspected.
    score_q10, score_q25, score_q50, score_q75, score_q90, score_q99
        Quantiles of the scores of the inspected images.
    area_share
        Defective area over the area of all inspected images.
    seconds_per_image
        CPU seconds of a localization, mean.
    auroc, average_precision, aupro, image_auroc
        As in :class:`tasks.category_metrics.CategoryMetrics`, if the truth of the night is known.
    """

    day: date
    batch: str
    fingerprint: str
    digest: str
    images: int
    inspected: int
    failed: int
    defective: int
    defect_rate: float | None = None
    score_q10: float | None = None
    score_q25: float | None = None
    score_q50: float | None = None
    score_q75: float | None = None
    score_q90: float | None = None
    score_q99: float | None = None
    area_share: float | None = None
    seconds_per_image: float | None = None
    auroc: float | None = None
    average_precision: float | None = None
    aupro: float | None = None
    image_auroc: float | None = None

    def to_json(self) -> bytes:
        """Serialise."""
        return (json.dumps({**asdict(self), "day": self.day.isoformat()}, indent=1) + "\n").encode()

    @classmethod
    def of_seal(cls, day: date, seal: Seal) -> "NightFigures":
        """Return what the seal of a night tells of it."""
        return cls(
            day=day,
            batch=seal.batch,
            fingerprint=seal.fingerprint,
            digest=seal.digest,
            images=seal.images,
            inspected=seal.inspected,
            failed=seal.failed,
            defective=seal.defective,
            defect_rate=seal.defective / seal.inspected if seal.inspected else None,
        )

    @classmethod
    def from_json(cls, content: bytes) -> "NightFigures":
        """Read what :meth:`to_json` wrote."""
        tree = json.loads(content)
        return cls(**{**tree, "day": date.fromisoformat(tree["day"])})


@dataclass(frozen=True)
class TrendRow:
    """A night beside the nights before it.

    Attributes
    ----------
    figures
        Of the night.
    rate
        Its defect rate beside those of the trailing nights; None in the first week, and if no image was inspected.
    scores
        Its quantiles likewise, by name: those in `COMPARED`, or none of them.
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


def lines(results: Storage) -> list[str]:
    """Return the names of the lines that have a night below the results."""
    return sorted({night.line for name in results.folders() if (night := night_of(name))})


def read_nights(results: Storage, line: str, *, anew: Collection[str] | Literal["all"] = ()) -> list[NightFigures]:
    """Return the figures of all sealed nights of a line, in their order.

    Figures that are missing, or of another seal than the batch now has, are made from the batch's store and kept there.

    Parameters
    ----------
    anew
        Batches whose figures are made again, or all: their metrics came after their seal.
    """
    nights = {name: night for name in results.folders() if (night := night_of(name)) and night.line == line}
    seals = results.read_many(f"{name}/{SEAL}" for name in nights)
    kept = results.read_many(f"{name}/{TREND}" for name in nights)
    figures = []
    for name, night in nights.items():
        content, folder = seals[f"{name}/{SEAL}"], results.below(name)
        seal = None if isinstance(content, StorageError) else parse_seal(content, folder)
        if seal is None:
            continue  # Not sealed, or its seal was broken since the listing: no night yet.
        stored = None if anew == "all" or name in anew else _parsed(kept[f"{name}/{TREND}"])
        figures.append(stored if stored and stored.digest == seal.digest else _kept(folder, night, seal))
    return sorted(figures, key=lambda night: (night.day, night.batch))


def compare_nights(nights: Sequence[NightFigures]) -> list[TrendRow]:
    """Set each night beside the at most 28 before it that were inspected with the same settings."""
    return [TrendRow(night, rate=_rate(night, nights), scores=_scores(night, nights)) for night in nights]


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
    ][-TRAILING:]
    return before if len(before) >= LEAST and getattr(night, needed) is not None else []


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


def write_table(results: Storage, line: str, rows: Iterable[TrendRow]) -> None:
    """Write a line's table, replacing the earlier one as a whole."""
    buffer = pa.BufferOutputStream()
    parquet.write_table(table_of(rows), buffer)
    results.write(f"{TRENDS}/{line}.parquet", buffer.getvalue().to_pybytes())


def _kept(folder: Storage, night: Night, seal: Seal) -> NightFigures:
    known = NightFigures.of_seal(night.day, seal)
    try:
        figures = replace(known, **_measured_by_image(folder), **_measured(folder, seal))
    except (OSError, KeyError, ValueError):
        return known  # The store is gone or cannot be read: the seal still has the counts. Not kept, it may come back.
    folder.write(TREND, figures.to_json())
    return figures


def _measured_by_image(folder: Storage) -> dict[str, Any]:
    images = read_figures(folder)
    done = images["status"] == STATUSES.index("inspected")
    if not done.any():
        return {}
    scores = images["score"][done].astype(np.float64)
    pixels = images["height"][done].astype(np.int64) * images["width"][done]
    return {
        **{name: float(np.quantile(scores, probability)) for name, probability in SCORE_PROBABILITIES.items()},
        "area_share": float(images["area"][done].sum() / pixels.sum()),
        "seconds_per_image": float(images["seconds"][done].mean(dtype=np.float64)),
    }


def _measured(folder: Storage, seal: Seal) -> dict[str, Any]:
    try:
        measured = json.loads(folder.read(EVALUATION))
    except MissingObjectError:
        return {}
    # The metrics of results that have changed since are not this night's.
    return {name: measured["mean"][name] for name in MEASURED} if measured["digest"] == seal.digest else {}


def _parsed(content: bytes | StorageError) -> NightFigures | None:
    if isinstance(content, StorageError):
        return None
    try:
        return NightFigures.from_json(content)
    except (ValueError, TypeError, KeyError):
        return None  # Written by another version: made again.


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
