"""Nights as trends see them: their figures, and the two objects that keep them."""

from datetime import date, timedelta

from tasks.night_figures import NightFigures
from tasks.nights import Night
from tasks.seal import Seal, set_seal
from tasks.stored_json import to_json

FIRST = date(2026, 9, 1)


def figures(number, *, defective=12, inspected=420, median=-0.3, fingerprint="f", line="line-1"):
    day = FIRST + timedelta(days=number)
    return NightFigures(
        day=day,
        batch=Night(line, day).batch,
        fingerprint=fingerprint,
        digest=f"digest of {number}",
        images=inspected,
        inspected=inspected,
        failed=0,
        defective=defective,
        defect_rate=defective / inspected if inspected else None,
        score_q10=median - 0.4,
        score_q25=median - 0.2,
        score_q50=median,
        score_q75=median + 0.3,
        score_q90=median + 0.7,
        score_q99=9.0,
        area_share=0.001,
        seconds_per_image=2.4,
    )


def nights(count):
    return [figures(number, defective=10 + number % 5, median=-0.3 + 0.01 * (number % 4)) for number in range(count)]


def write_sealed(results, night):
    """Write a batch as far as trends read it: its seal, and the figures kept with it."""
    folder = results.below(night.batch)
    counts = {name: getattr(night, name) for name in ("images", "inspected", "failed", "defective")}
    folder.write("trend.json", to_json(night))
    set_seal(folder, Seal(batch=night.batch, fingerprint=night.fingerprint, digest=night.digest, **counts))
