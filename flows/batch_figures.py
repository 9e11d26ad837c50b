"""A finished batch in figures and words, as the terminal and the run's page in the Prefect UI show them."""

from flows.outcome import Outcome
from tasks.discovery import count_by_suffix
from tasks.found_masks import count_and_name
from tasks.records import ImageRecord

MOST_FAILURES_SHOWN = 50
"""That are listed; the gallery and the JSON have all."""


def figures(outcome: Outcome) -> dict[str, str]:
    """Return the figures of a batch by their names, as plain text."""
    summary, manifest = outcome.results.summary, outcome.results.manifest
    inspected = [record for record in outcome.results.present if record.inspected]
    on_gpu = sum(record.device.startswith("cuda") for record in inspected)
    regions = f"{summary.regions} region{'' if summary.regions == 1 else 's'}"
    rate = f" ({100 * summary.defect_rate:.1f} %), {regions}" if inspected else ""
    each = f", {summary.fit_seconds / summary.inspected:.2f} s an image" if inspected else ""
    share = f", {100 * on_gpu / len(inspected):.0f} % of the images on a GPU" if on_gpu else ""
    return {
        "images": f"{summary.images}, {outcome.fitted} of them tried by this run",
        "defective": f"{summary.defective}{rate}",
        "not inspected": str(summary.failed),
        **({"with warnings": f"{summary.warned}, listed in the gallery"} if summary.warned else {}),
        **({"with a mask": f"{summary.masked} of {summary.images}, the others whole"} if manifest.masks else {}),
        **({"masks of no image": count_and_name(outcome.stray_masks)} if outcome.stray_masks else {}),
        **({"other files, left out": count_by_suffix(outcome.others)} if outcome.others else {}),
        "CPU time": f"{summary.fit_seconds:.1f} s{each}{share}",
    }


def failed(outcome: Outcome) -> list[ImageRecord]:
    """Return the records of the images that could not be inspected, by their keys."""
    return sorted((record for record in outcome.results.present if record.failed), key=lambda record: record.key)


def largest_at(record: ImageRecord) -> str:
    """Return where an image's first region lies, ``x, y`` in pixels, or nothing."""
    return "{1:.0f}, {0:.0f}".format(*record.regions[0].centroid) if record.regions else ""
