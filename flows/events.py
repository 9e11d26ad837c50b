"""What the flows tell Prefect's event system, for automations to act on: `infra/automations.py` has some.

Resources are ``ssdnet.batch.NAME`` and, where the batch is a night of a line, the related ``ssdnet.line.LINE``. An
event that cannot be sent never fails a batch: the run goes on.
"""

from typing import Any

from prefect.events import emit_event

from tasks.nights import Night, night_of
from tasks.records import ImageRecord
from tasks.seal import Seal
from tasks.trends import TrendRow

BATCH_SEALED = "ssdnet.batch.sealed"
MANY_FAILED = "ssdnet.batch.many-failed"
IMAGE_FAILED = "ssdnet.image.failed"
IMAGES_FAILED = "ssdnet.images.failed"
DEFECT_RATE = "ssdnet.batch.defect-rate"
DEFECT_RATE_JUMP = "ssdnet.batch.defect-rate-jump"
SCORE_DRIFT = "ssdnet.batch.score-drift"
UP_TO_DATE = "ssdnet.line.up-to-date"
"""Last night of a line is sealed; inspecting an older one does not tell this."""

STOOD_STILL = "ssdnet.line.stood-still"
WATCHED = "ssdnet.line.watched"
"""From now on a line is expected to become up to date."""

NO_IMAGES = "NoImages"
"""Name of the completed state of a night in which the line stood still: Prefect tells of it by an event of its own."""

LONGEST_REASON = 500
TOLERATED_SHARE = 0.05
"""Share of a batch's images that may fail: a broken file now and then, not a broken worker."""


def batch_sealed(seal: Seal, *, folder: str, report: str) -> None:
    """Tell that a batch is finished."""
    _emit(
        BATCH_SEALED, seal.batch, payload={**_counts(seal), "digest": seal.digest, "folder": folder, "report": report}
    )


def has_many_failed(seal: Seal) -> bool:
    """Whether more of a batch's images could not be inspected than may fail."""
    return seal.failed > TOLERATED_SHARE * seal.images


def many_failed(seal: Seal) -> None:
    """Tell that too many images of a finished batch could not be inspected."""
    _emit(MANY_FAILED, seal.batch, payload=_counts(seal))


def image_failed(batch: str, record: ImageRecord) -> None:
    """Tell that an image could not be inspected."""
    _emit(IMAGE_FAILED, batch, payload={"image": record.key, "reason": record.error[:LONGEST_REASON]})


def images_failed(batch: str, *, failed: int, told: int) -> None:
    """Tell how many images could not be inspected, where not all of them had an event of their own."""
    _emit(IMAGES_FAILED, batch, payload={"failed": failed, "told": told})


def night_compared(row: TrendRow, *, alarm: bool) -> None:
    """Tell a night's defect rate and whether it is unusual; with ``alarm``, also alarm for unusual rate or scores."""
    night = row.figures
    rate = {"defect_rate": night.defect_rate, "defective": night.defective, "inspected": night.inspected}
    if row.rate:
        rate |= {"lowest": row.rate.lowest, "usual": row.rate.middle, "highest": row.rate.highest}
    _emit(DEFECT_RATE, night.batch, payload={**rate, "alarm": row.jump})
    if alarm and row.jump:
        _emit(DEFECT_RATE_JUMP, night.batch, payload=rate)
    if alarm and row.drift:
        drifted = {
            name: {
                "value": getattr(night, name),
                "lowest": departure.lowest,
                "usual": departure.middle,
                "highest": departure.highest,
            }
            for name, departure in row.scores.items()
            if departure.flagged
        }
        _emit(SCORE_DRIFT, night.batch, payload=drifted)


def line_up_to_date(night: Night) -> None:
    """Tell that last night of a line is sealed."""
    emit_event(UP_TO_DATE, resource=line_resource(night.line), payload={"day": night.day.isoformat()})


def line_stood_still(night: Night) -> None:
    """Tell that a line took no images in a night: nothing is missing, but somebody may wonder."""
    emit_event(STOOD_STILL, resource=line_resource(night.line), payload={"day": night.day.isoformat()})


def line_watched(line: str) -> None:
    """Tell that a line is to become up to date from now on."""
    emit_event(WATCHED, resource=line_resource(line))


def line_resource(line: str) -> dict[str, str]:
    """Return the resource of a line."""
    return {"prefect.resource.id": f"ssdnet.line.{line}", "prefect.resource.name": line}


def _counts(seal: Seal) -> dict[str, int]:
    return {"images": seal.images, "inspected": seal.inspected, "failed": seal.failed, "defective": seal.defective}


def _emit(event: str, batch: str, *, payload: dict[str, Any]) -> None:
    night = night_of(batch)
    resource = {"prefect.resource.id": f"ssdnet.batch.{batch}", "prefect.resource.name": batch}
    related = [{**line_resource(night.line), "prefect.resource.role": "line"}] if night else []
    emit_event(event, resource=resource, related=related, payload=payload)
