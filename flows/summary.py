"""What a command prints when a batch is sealed."""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.batch_figures import MOST_FAILURES_SHOWN, failed, figures, largest_at, metric_rows
from flows.evaluation import MeasuredOutcome
from flows.outcome import Outcome
from tasks.category_metrics import CategoryMetrics, Evaluation
from tasks.evaluation_file import evaluation_tree
from tasks.image_metrics import BORDER
from tasks.report import worst_first
from tasks.stored_json import null_for_nan
from tasks.words import counted, shown_score

WORST_PRINTED = 10
MOST_WARNINGS_PRINTED = 5


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print the summary of a batch, as tables or as one JSON object."""
    if as_json:
        _print_json(outcome_tree(outcome))
        return
    console = Console()
    console.print(_worst(outcome, console))
    if outcome.results.summary.failed:
        console.print(_failures(outcome))
    if outcome.results.summary.warned:
        console.print(_warnings(outcome))
    console.print(_figures(outcome))
    # On lines of their own and never broken, so that they can be copied and opened.
    for name, address in (("results", outcome.folder.address), ("gallery", outcome.report)):
        console.print(Text(f"{name}  ").append_text(_shown(address)), soft_wrap=True)


def print_measured(measured: MeasuredOutcome, *, as_json: bool) -> None:
    """Print the summary and the metrics of a labelled batch."""
    if as_json:
        # What is said of each image is in evaluation.json.
        evaluation = {k: v for k, v in evaluation_tree(measured.evaluation).items() if k != "images"}
        _print_json({**outcome_tree(measured.outcome), "evaluation": evaluation})
        return
    print_outcome(measured.outcome, as_json=False)
    print_evaluation(measured.evaluation, Console())


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the metrics as tables of at most 80 columns."""
    if evaluation.unmeasured:
        console.print(_unmeasured(evaluation))
    console.print(_metrics(evaluation))
    console.print(_means(evaluation.mean, categories=len(evaluation.categories)))


def outcome_tree(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain data."""
    return {
        "batch": outcome.results.manifest.batch,
        "folder": outcome.folder.address,
        "report": outcome.report,
        "fingerprint": outcome.seal.fingerprint,
        "fitted": outcome.fitted,
        "others": dict(outcome.listing.others),
        "stray_masks": outcome.listing.masks.others,
        **asdict(outcome.results.summary),
        "failures": {record.key: record.error for record in failed(outcome)},
        "warnings": {record.key: record.warnings for record in outcome.results.warned},
        "digest": outcome.seal.digest,
    }


def _print_json(tree: dict[str, Any]) -> None:
    print(json.dumps(null_for_nan(tree), indent=1))


def _worst(outcome: Outcome, console: Console) -> Table:
    table = Table(title="Highest scores")
    table.add_column("image", overflow="fold")
    for name in ("score", "verdict", "regions", "largest at (x, y)"):
        table.add_column(name, no_wrap=True)
    for record in worst_first(outcome.results.present)[:WORST_PRINTED]:
        verdict = Text("defective", style="red") if record.defective else Text("good", style="green")
        cells = (shown_score(record.score), verdict, str(len(record.regions)), largest_at(record))
        table.add_row(_shown(record.key), *cells)
    # Names that would be broken take the room of the regions and their places.
    endless = console.options.update_width(sys.maxsize)
    while len(table.columns) > 3 and console.measure(table, options=endless).maximum > console.width:
        table.columns.pop()
    return table


def _failures(outcome: Outcome) -> Table:
    records = failed(outcome)
    title = f"Not inspected{_how_many(MOST_FAILURES_SHOWN, of=len(records))}"
    return _told(title, what="reason", rows=((record.key, record.error) for record in records[:MOST_FAILURES_SHOWN]))


def _warnings(outcome: Outcome) -> Table:
    warned = outcome.results.warned
    title = f"Warnings{_how_many(MOST_WARNINGS_PRINTED, of=len(warned))}"
    told = ((record.key, "; ".join(record.warnings)) for record in warned[:MOST_WARNINGS_PRINTED])
    return _told(title, what="warning", rows=told)


def _told(title: str, *, what: str, rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of what there is to say of single images."""
    table = Table(title=title)
    for name in ("image", what):
        table.add_column(name, overflow="fold")
    for key, text in rows:
        table.add_row(_shown(key), _shown(text))
    return table


def _how_many(shown: int, *, of: int) -> str:
    return f": {shown} of {of}" if of > shown else ""


def _shown(text: str) -> Text:
    """Return a text as it is, but for what a terminal would obey: a file's name may hold brackets, and escapes."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Text(printable, overflow="fold")


def _figures(outcome: Outcome) -> Table:
    table = Table(title=outcome.results.manifest.batch, show_header=False)
    for name, value in figures(outcome).items():
        table.add_row(name, _shown(value))
    return table


def _unmeasured(evaluation: Evaluation) -> Table:
    title = f"Not measured: {len(evaluation.unmeasured)}"
    return _told(title, what="reason", rows=((image.key, image.reason) for image in evaluation.unmeasured))


def _metrics(evaluation: Evaluation) -> Table:
    table = Table(title="Full frame: mean of the defective images, each by itself")
    table.add_column("category", overflow="fold")
    for name in ("bad+good", "AUROC", "AUPRC", "AUPRO", "IoU", "hits", "alarms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in metric_rows(evaluation):
        if row.images is None:
            table.add_section()
        decimals, numbers, shares = [""] * 4, "", [""] * 2
        if pixels := row.pixels:
            decimals = [_decimal(v) for v in (pixels.auroc, pixels.average_precision, pixels.aupro, pixels.iou)]
        if images := row.images:
            numbers = f"{images.defective}+{images.good}"
            shares = [_percent(value) for value in (images.hit_rate, images.false_alarm_rate)]
        table.add_row(_shown(row.name), numbers, *decimals, *shares)
    return table


def _means(mean: CategoryMetrics, *, categories: int) -> Table:
    border = f"{100 * BORDER:g} % border ignored"
    table = Table(
        title="Mean of the categories" if categories > 1 else "The category",
        caption=f"All images: AUROC of their scores {_decimal(mean.image_auroc)}; "
        f"{_percent(mean.region_precision)} of {counted(mean.regions, 'region')} on a defect.",
    )
    table.add_column("pixels measured", overflow="fold")
    for name in ("AUROC", "AUPRC", "AUPRO", "best F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in (
        ("image by image, full frame", mean),
        (f"image by image, {border}", mean.border_ignored),
        ("pooled by category, full frame", mean.pooled),
        (f"pooled by category, {border}", mean.pooled_border_ignored),
    ):
        table.add_row(name, *(_decimal(value) for value in (row.auroc, row.average_precision, row.aupro, row.f1)))
    return table


def _decimal(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"
