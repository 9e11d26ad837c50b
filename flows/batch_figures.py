"""A finished batch in figures and words, as the terminal and the run's page in the Prefect UI show them."""

from dataclasses import dataclass

from flows.outcome import Outcome
from tasks.category_metrics import CategoryMetrics, Evaluation
from tasks.found_masks import count_and_name, masks_changed
from tasks.keys import count_by_suffix
from tasks.records import ImageRecord
from tasks.words import counted

MOST_FAILURES_SHOWN = 50
"""That are listed; the gallery and the JSON have all."""


def figures(outcome: Outcome) -> dict[str, str]:
    """Return the figures of a batch by their names, as plain text."""
    summary, manifest = outcome.results.summary, outcome.results.manifest
    former = outcome.former_masks
    inspected = [record for record in outcome.results.present if record.inspected]
    on_gpu = sum(record.device.startswith("cuda") for record in inspected)
    rate = f" ({100 * summary.defect_rate:.1f} %), {counted(summary.regions, 'region')}" if inspected else ""
    each = f", {summary.fit_seconds / summary.inspected:.2f} s an image" if inspected else ""
    share = f", {100 * on_gpu / len(inspected):.0f} % of the images on a GPU" if on_gpu else ""
    return {
        "images": f"{summary.images}, {_tried(outcome)}",
        "defective": f"{summary.defective}{rate}",
        "not inspected": str(summary.failed),
        **({"with warnings": f"{summary.warned}, listed in the gallery"} if summary.warned else {}),
        **({"with a mask": _masked(outcome)} if manifest.masks else {}),
        **({"other masks": masks_changed(former, manifest.masks)} if former is not None else {}),
        **({"masks of no image": count_and_name(strays)} if (strays := outcome.listing.masks.others) else {}),
        **({"other files, left out": count_by_suffix(others)} if (others := outcome.listing.others) else {}),
        "CPU time": f"{summary.fit_seconds:.1f} s{each}{share}",
    }


def _tried(outcome: Outcome) -> str:
    if outcome.fitted == 0:
        return "done before"
    every = "tried by this run"
    return every if outcome.fitted == outcome.results.summary.images else f"{outcome.fitted} of them {every}"


def _masked(outcome: Outcome) -> str:
    masked, images = outcome.results.summary.masked, outcome.results.summary.images
    return f"{masked} of {images}, the others whole" if masked < images else f"all {images}" if images > 1 else "1"


def failed(outcome: Outcome) -> list[ImageRecord]:
    """Return the records of the images that could not be inspected, by their keys."""
    return sorted(outcome.results.failed, key=lambda record: record.key)


def largest_at(record: ImageRecord) -> str:
    """Return where an image's first region lies, ``x, y`` in pixels, or nothing."""
    return "{1:.0f}, {0:.0f}".format(*record.regions[0].centroid) if record.regions else ""


@dataclass(frozen=True)
class MetricRow:
    """A row in the table of a batch's metrics.

    Attributes
    ----------
    name
        A category, or what the row is of.
    pixels
        Where its pixel metrics are taken from, None if it has none.
    images
        Where its counts of images, hits and false alarms are taken from, None if it has none.
    """

    name: str
    pixels: CategoryMetrics | None
    images: CategoryMetrics | None


def metric_rows(evaluation: Evaluation) -> list[MetricRow]:
    """Return a row for each category; of several, also one for their mean, and one for all images."""
    rows = [MetricRow(row.category, pixels=row, images=row) for row in evaluation.categories]
    if len(rows) > 1:
        # Two rows: many a category has no good image, so that what verdicts did is of all images.
        mean = evaluation.mean
        rows += [MetricRow("category mean", pixels=mean, images=None), MetricRow("all images", None, images=mean)]
    return rows
