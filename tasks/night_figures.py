"""The nights of a line in figures: a small object in the folder of each batch, ``trend.json``, made from its store."""

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import numpy as np

from ssdnet_core.errors import SsdnetError
from tasks.batch import MAPS, SEAL, TREND, read_manifest
from tasks.batch_results import SCORE_QUANTILES
from tasks.evaluation_file import EVALUATION
from tasks.image_figures import STATUSES, read_figures
from tasks.nights import Night, night_of
from tasks.seal import Seal, parse_seal
from tasks.settings_in_words import settings_of
from tasks.storage import Storage
from tasks.storage_answers import FAILURES, MissingObjectError, StorageError, reason_of
from tasks.stored_json import StoredJsonError, from_json, to_json

_log = logging.getLogger(__name__)

SCORE_PROBABILITIES = {f"score_q{100 * probability:.0f}": probability for probability in SCORE_QUANTILES}
MEASURED = ("auroc", "average_precision", "aupro", "image_auroc")
STAYS = "stays in the trends as it was known"


@dataclass(frozen=True, kw_only=True)
class NightFigures:
    """A sealed night in figures; None where undefined, as scores of no image, or not measured.

    Attributes
    ----------
    day, batch, fingerprint, digest
        Which night it is, under which settings; the digest is that of its seal.
    settings
        Its settings in words (:mod:`tasks.settings_in_words`); empty where this version cannot tell them.
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
    settings: str = ""
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


def lines(results: Storage) -> list[str]:
    """Return the names of the lines that have a night below the results."""
    return sorted({night.line for name in results.folders() if (night := night_of(name))})


def read_nights(
    results: Storage,
    line: str,
    *,
    anew: Collection[str] | Literal["all"] = (),
    known: Iterable[NightFigures] = (),
) -> list[NightFigures]:
    """Return the figures of all sealed nights of a line, in their order.

    Figures that are missing, or of another seal than the batch now has, are made from the batch's store and kept there.
    A night whose seal the store does not give, as of an archived batch, stays as it was known, with a warning; so does
    one whose maps are gone, unless nobody knows its figures: then it has its seal's counts alone.

    Parameters
    ----------
    anew
        Batches whose figures are made again, or ``all``: metrics may have come after the seal.
    known
        Nights as an earlier call returned them.

    Raises
    ------
    StorageError
        If the results cannot be listed, figures cannot be written, or a batch that ``anew`` names has a seal that
        cannot be read.
    """
    nights = {name: night for name in results.folders() if (night := night_of(name)) and night.line == line}
    seals = results.read_many(f"{name}/{SEAL}" for name in nights)
    kept = results.read_many(f"{name}/{TREND}" for name in nights)
    known_by_batch = {night.batch: night for night in known}
    figures: list[NightFigures] = []
    for name, night in nights.items():
        content, folder = seals[f"{name}/{SEAL}"], results.below(name)
        if isinstance(content, MissingObjectError):
            continue  # Not sealed, or its seal was broken since the listing: no night yet.
        if isinstance(content, StorageError):
            if anew != "all" and name in anew:
                raise content
            figures += _as_known(folder, _parsed(kept[f"{name}/{TREND}"]) or known_by_batch.get(name), error=content)
            continue
        seal = parse_seal(content, folder)
        if seal is None:
            continue
        found = _of_seal(seal, _parsed(kept[f"{name}/{TREND}"]))
        if not found or anew == "all" or name in anew:
            before = found or _of_seal(seal, known_by_batch.get(name))
            found = _made(folder, night, seal=seal, before=before)
        # As its folder is called, which may be a copy, or renamed: the seal tells what it was.
        figures.append(replace(found, day=night.day, batch=name))
    return sorted(figures, key=lambda night: (night.day, night.batch))


def _of_seal(seal: Seal, figures: NightFigures | None) -> NightFigures | None:
    return figures if figures and figures.digest == seal.digest else None


def _as_known(folder: Storage, known: NightFigures | None, *, error: StorageError) -> list[NightFigures]:
    stays = STAYS if known else "is left out of the trends until its seal can be read"
    _log.warning("%s %s: %s", folder.address, stays, error)
    return [known] if known else []


def _made(folder: Storage, night: Night, *, seal: Seal, before: NightFigures | None) -> NightFigures:
    counts = NightFigures.of_seal(night.day, seal)
    try:
        metrics = _measured(folder, seal, before=before)
        figures = replace(counts, settings=_settings(folder), **_measured_by_image(folder), **metrics)
    # From what is damaged, zarr and its codecs raise anything.
    except (SsdnetError, *FAILURES, LookupError, TypeError, RuntimeError) as error:
        # The seal still has the counts. Not kept: the store may come back.
        stays = STAYS if before else "is in the trends with the counts of its seal alone"
        _log.warning("%s %s: its figures (%s) cannot be read: %s", folder.address, stays, MAPS, reason_of(error))
        return before or counts
    folder.write(TREND, to_json(figures, indent=1))
    return figures


def _settings(folder: Storage) -> str:
    try:
        return settings_of(read_manifest(folder))
    except SsdnetError:
        return ""  # As of settings that this version does not know: no reason to go without the figures.


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


def _measured(folder: Storage, seal: Seal, *, before: NightFigures | None) -> dict[str, Any]:
    try:
        measured = json.loads(folder.read(EVALUATION))
        # The metrics of results that have changed since are not this night's.
        return {name: measured["mean"][name] for name in MEASURED} if measured["digest"] == seal.digest else {}
    except MissingObjectError:
        return {}
    except (ValueError, LookupError, TypeError) as error:
        stay = "stay as they were known" if before else "are left out"
        problem = f"its metrics {stay}, until it is measured again: {EVALUATION} is damaged: {reason_of(error)}"
        _log.warning("%s: %s", folder.address, problem)
        return {name: getattr(before, name) for name in MEASURED} if before else {}


def _parsed(content: bytes | StorageError) -> NightFigures | None:
    if isinstance(content, StorageError):
        return None
    try:
        return from_json(NightFigures, content)
    except StoredJsonError:
        return None  # Written by another version: made again.
