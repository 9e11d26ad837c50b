"""The trends of a line: its table, and a page of plots that opens from any folder without a network."""

import base64
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from ssdnet_core.errors import UsageError
from tasks import trend_plots
from tasks.batch import GALLERY, TRENDS
from tasks.departure import LEAST_NIGHTS, MOST_NIGHTS_COMPARED
from tasks.night_figures import MEASURED, lines, read_nights
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError
from tasks.trends import (
    TrendRow,
    Trends,
    compare_nights,
    latest_settings,
    read_table,
    remarks,
    settings_names,
    table_key,
    write_table,
)
from tasks.words import counted

NIGHTS_PLOTTED = 366
"""The plots show so many; the table has all."""

NIGHTS_LISTED = 28
ROUNDS = 5
"""How often the trends are written, at most: a run that seals another night meanwhile writes them, too."""


class NoNightsError(UsageError, ValueError):
    """The results hold no sealed night of the line."""


def write_trends(results: Storage, line: str, *, anew: Collection[str] | Literal["all"] = ()) -> Trends:
    """Write the table and the page of a line from all its sealed nights.

    Two nights that finish at once both write; whoever writes last looks again whether it knew all.

    Parameters
    ----------
    results
        Folder or prefix of the batches.
    anew
        As for :func:`tasks.night_figures.read_nights`.

    Raises
    ------
    NoNightsError
        If there is no sealed night.
    """
    nights = read_nights(results, line, anew=anew, known=read_table(results, line))
    if not nights:
        raise NoNightsError(
            f"{results.address} holds no sealed night of line {line!r}: batches of a line are named {line}-YYYY-MM-DD"
        )
    page = f"{TRENDS}/{line}.html"
    for _ in range(ROUNDS):
        rows = compare_nights(nights)
        write_table(results, line, rows=rows)
        with_gallery = _with_gallery(results, [row.figures.batch for row in rows[-NIGHTS_LISTED:]])
        results.write(page, draw_page(line, rows, with_gallery=with_gallery).encode())
        written, nights = nights, read_nights(results, line, known=nights)
        # None any more if another run broke the only seal: it writes when it seals the night again.
        if not nights or nights == written:
            break
    return Trends(rows, table=f"{results.address}/{table_key(line)}", page=f"{results.address}/{page}")


def write_all_trends(results: Storage, only: Collection[str] = (), *, anew: bool = False) -> list[Trends]:
    """Write the trends of all lines that have a sealed night, or ``only`` of some.

    Raises
    ------
    NoNightsError
        If there is no sealed night, or none of a line that was asked for.
    """
    again: Collection[str] | Literal["all"] = "all" if anew else ()
    if only:
        return [write_trends(results, line, anew=again) for line in sorted(only)]
    written = []
    for line in lines(results):
        # The first night of a new line is no reason to leave out the others.
        with suppress(NoNightsError):
            written.append(write_trends(results, line, anew=again))
    if not written:
        raise NoNightsError(f"{results.address} holds no sealed night: batches of a line are named LINE-YYYY-MM-DD")
    return written


def draw_page(line: str, rows: Sequence[TrendRow], *, with_gallery: Collection[str]) -> str:
    """Return the page of a line's nights, at least one, as HTML; it links the batches ``with_gallery``."""
    shown = rows[-NIGHTS_PLOTTED:]
    half = [("Images", trend_plots.counts(shown))]
    half.append(("Defective area", trend_plots.figure(shown, "area_share", label="share of the area, %", factor=100)))
    half.append(("Effort", trend_plots.figure(shown, "seconds_per_image", label="CPU seconds an image")))
    if any(row.figures.auroc is not None for row in shown):
        half.append(("Against the truth", trend_plots.metrics(shown, MEASURED)))
    environment = Environment(loader=PackageLoader("tasks"), autoescape=True, undefined=StrictUndefined)
    names = settings_names(rows)
    settings = trend_plots.settings_in_use(shown)
    return environment.get_template("trends.html.j2").render(
        line=line,
        rows=rows,
        counted=counted,
        latest=rows[-1],
        shown=len(shown),
        remarks=remarks,
        settings=dict(zip(settings, trend_plots.COLOURS * len(settings), strict=False)),
        names=names,
        now=latest_settings(rows),
        rate_plot=_address(trend_plots.defect_rates(shown)),
        score_plot=_address(trend_plots.scores(shown)),
        half_plots=[(name, _address(plot)) for name, plot in half],
        flagged=[row for row in reversed(rows[-NIGHTS_LISTED:]) if remarks(row)],
        listed=list(reversed(rows[-NIGHTS_LISTED:])),
        gallery=GALLERY,
        with_gallery=with_gallery,
        least=LEAST_NIGHTS,
        trailing=MOST_NIGHTS_COMPARED,
    )


def _with_gallery(results: Storage, batches: Sequence[str]) -> set[str]:
    # Old ones may have been deleted to make room, and their nights' figures kept.
    found = results.read_many([f"{batch}/{GALLERY}" for batch in batches], end=1)
    return {batch for batch in batches if not isinstance(found[f"{batch}/{GALLERY}"], MissingObjectError)}


def _address(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
