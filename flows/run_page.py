"""What stands on a run's page in the Prefect UI when a batch is finished: figures, worst images, failures, pictures.

Where ``SSDNET_GALLERY_URL`` tells under which address a browser reaches the results (``ssdnet up`` serves them), the
page links to the gallery and shows pictures; without it, and of results that are not served, it names the addresses.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from flows.batch_figures import MOST_FAILURES_SHOWN, MetricRow, failed, figures, largest_at, metric_rows
from flows.events import LONGEST_REASON
from flows.outcome import Outcome
from tasks.batch import GALLERY
from tasks.category_metrics import Evaluation
from tasks.nights import night_of
from tasks.records import ImageRecord
from tasks.report import MOST_OVERLAYS, overlay_key, worst_first
from tasks.settings_in_words import settings_of
from tasks.storage import Storage
from tasks.trends import TrendRow, Trends, latest_settings, remarks, settings_names
from tasks.words import shown_score

GALLERY_URL, SERVED_RESULTS = "SSDNET_GALLERY_URL", "SSDNET_RESULTS"
WORST_ON_PAGE = 20


def show_batch(outcome: Outcome) -> None:
    """Write the artifacts of a finished batch; the nights of a line share keys, so that each is a version of them."""
    batch, folder = outcome.results.manifest.batch, outcome.folder
    key = artifact_key(batch)
    worst, not_inspected = worst_first(outcome.results.present)[:WORST_ON_PAGE], failed(outcome)
    create_markdown_artifact(markdown=summary_of(outcome), key=f"{key}-summary", description=batch)
    if worst:
        rows = [_worst_row(folder, record) for record in worst]
        description = f"{batch}: the {len(worst)} highest scores of {outcome.results.summary.inspected}"
        create_table_artifact(table=rows, key=f"{key}-worst", description=description)
    if not_inspected:
        rows = [_failure_row(record) for record in not_inspected[:MOST_FAILURES_SHOWN]]
        shown = f", the first {MOST_FAILURES_SHOWN} of them" if len(not_inspected) > MOST_FAILURES_SHOWN else ""
        description = f"{batch}: {len(not_inspected)} not inspected{shown}"
        create_table_artifact(table=rows, key=f"{key}-failures", description=description)
    for rank, (record, url) in enumerate(_pictures(folder, worst), start=1):
        description = f"{batch}: {plain(record.key)}, score {shown_score(record.score)}"
        create_image_artifact(image_url=url, key=f"{key}-worst-{rank}", description=description)


def show_metrics(batch: str, evaluation: Evaluation) -> None:
    """Write the metrics of a batch whose truth is known."""
    rows = [_metric_row(row) for row in metric_rows(evaluation)]
    create_table_artifact(table=rows, key=f"{artifact_key(batch)}-metrics", description=batch)


def show_trends(line: str, row: TrendRow, *, trends: Trends) -> None:
    """Write what the line's trends say of a night."""
    said = [f"- **{plain(remark)}**" for remark in remarks(row)] or ["Nothing out of the ordinary."]
    if row.rate is None:
        said = ["Too few nights under these settings to compare this one with."]
    folder, page = trends.page.rsplit("/", 1)
    url = url_of(Storage(folder), page)
    lines = [
        f"# {plain(line)}, {row.figures.day}",
        "",
        *said,
        "",
        f"Settings: {_settings_of_night(row, trends)}",
        "",
        f"[All nights]({url})" if url else f"All nights: `{trends.page}`",
    ]
    create_markdown_artifact(
        markdown="\n".join(lines), key=f"{artifact_key(line)}-trends", description=row.figures.batch
    )


def summary_of(outcome: Outcome) -> str:
    """Return a batch in figures, as Markdown."""
    batch, gallery = plain(outcome.results.manifest.batch), url_of(outcome.folder, GALLERY)
    rows = {
        **{name: plain(value) for name, value in figures(outcome).items()},
        "gallery": f"[{batch}]({gallery})" if gallery else plain(outcome.report),
        "results": plain(outcome.folder.address),
        "input": plain(outcome.results.manifest.input),
        "settings": plain(f"{settings_of(outcome.results.manifest)} (fingerprint {outcome.seal.fingerprint})"),
    }
    table = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join([f"# {batch}", "", "| | |", "| --- | --- |", *table])


def url_of(folder: Storage, key: str) -> str | None:
    """Return the address at which a browser finds an object of a folder of the results; None if it is not served.

    The results that are served are those of ``SSDNET_RESULTS`` or, where it is not set, those that the folder lies in.
    """
    served, results = os.environ.get(GALLERY_URL, "").rstrip("/"), os.environ.get(SERVED_RESULTS, "")
    root = f"{Storage(results).address.rstrip('/')}/" if results else folder.address.removesuffix(folder.name)
    if not served or not folder.address.startswith(root):
        return None
    return f"{served}/{quote(folder.address.removeprefix(root))}/{quote(key)}"


def artifact_key(name: str) -> str:
    """Return the beginning of artifact keys: the line of a night, or a batch's own name, in Prefect's alphabet.

    A name with other characters gets a hash appended: ``cam_1`` and ``CAM-1`` are two lines.
    """
    night = night_of(name)
    own = night.line if night else name
    plain = re.sub(r"[^a-z0-9]+", "-", own.lower()).strip("-") or "batch"
    return plain if plain == own else f"{plain}-{hashlib.sha256(own.encode()).hexdigest()[:6]}"


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is: a file's name may hold anything."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~>])", r"\\\1", one_line.replace("&", "&amp;").replace("<", "&lt;"))


def _settings_of_night(row: TrendRow, trends: Trends) -> str:
    names, latest = settings_names(trends.rows), latest_settings(trends.rows)
    own = plain(names[row.figures.fingerprint])
    if row.figures.fingerprint == latest:
        return own
    return f"{own}, **others than the latest night's**, {plain(names[latest])}"


def _metric_row(row: MetricRow) -> dict[str, Any]:
    pixels, images = row.pixels, row.images
    return {
        "category": plain(row.name),
        "defective": images and images.defective,
        "good": images and images.good,
        "unmeasured": images and images.unmeasured,
        "AUROC": pixels and round(pixels.auroc, 3),
        "AUPRC": pixels and round(pixels.average_precision, 3),
        "AUPRO": pixels and round(pixels.aupro, 3),
        "hits": images and round(images.hit_rate, 3),
        "false alarms": images and round(images.false_alarm_rate, 3),
    }


def _worst_row(folder: Storage, record: ImageRecord) -> dict[str, Any]:
    page = url_of(folder, GALLERY)
    return {
        "image": f"[{plain(record.key)}]({page}#image-{record.index})" if page else plain(record.key),
        "score": float(shown_score(record.score)),
        "verdict": "defective" if record.defective else "good",
        "regions": len(record.regions),
        "area": record.area,
        "largest at x, y": largest_at(record),
    }


def _failure_row(record: ImageRecord) -> dict[str, str]:
    return {"image": plain(record.key), "reason": plain(record.error[:LONGEST_REASON])}


def _pictures(folder: Storage, worst: Iterable[ImageRecord]) -> Iterator[tuple[ImageRecord, str]]:
    for record in [record for record in worst if record.defective][:MOST_OVERLAYS]:
        url = url_of(folder, overlay_key(record))
        if url and folder.exists(overlay_key(record)):
            yield record, url
