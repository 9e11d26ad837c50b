"""The plots of a line's nights, as SVG: one panel a figure, flagged nights in red."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.departure import Departure
from tasks.night_figures import NightFigures
from tasks.trends import TrendRow

INK, FAINT, GRID, BAND, FLAG = "#1c2126", "#66707a", "#e6eaed", "#dfe5ea", "#b3261e"
COLOURS = ("#2f5d8a", "#c77d1f", "#4c8c4a", "#8256a0", "#6b7075")
"""Of the settings, in the order in which they came into use."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "ssdnet",  # Without it, every drawing of the same nights has other ids.
    "axes.edgecolor": "#c4ccd3",
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
}
MARGIN = 0.7
"""Days on both sides of the nights."""
LEAST_DAYS = 14
WIDE, HALF = (12.0, 2.7), (5.9, 2.3)

Panel = Callable[[Axes, Sequence[TrendRow]], None]
Value = Callable[[NightFigures], float | None]
Numbers = npt.NDArray[np.float64]


def defect_rates(rows: Sequence[TrendRow]) -> bytes:
    """Draw the defect rate of each night, over the range that raises no flag."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        _ordinary(axes, [(row, row.rate) for row in rows], factor=100)
        for colour, label, group in _by_settings(rows):
            _line(axes, group, value=lambda night: _times(100, night.defect_rate), colour=colour, label=label)
        _flags(axes, [row for row in rows if row.jump], value=lambda night: _times(100, night.defect_rate))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("defect rate, %")

    return _drawn(rows, panel, size=WIDE)


def scores(rows: Sequence[TrendRow]) -> bytes:
    """Draw the quantiles of the scores of each night."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        for colour, label, group in _by_settings(rows):
            nights = [row.figures for row in group if row.figures.score_q10 is not None]
            days = _days(nights)
            low, high = ([getattr(night, name) for night in nights] for name in ("score_q10", "score_q90"))
            axes.fill_between(days, low, high, color=colour, alpha=0.16, linewidth=0)
            _line(axes, group, value=lambda night: night.score_q50, colour=colour, label=label)
            few = np.array([night.score_q99 for night in nights], dtype=np.float64)
            axes.plot(days, few, color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
        _flags(axes, [row for row in rows if row.drift], value=lambda night: night.score_q50)
        axes.set_yscale("symlog", linthresh=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("score")

    return _drawn(rows, panel, size=WIDE)


def counts(rows: Sequence[TrendRow]) -> bytes:
    """Draw the number of images of each night, and how many of them could not be inspected."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        days = _days([row.figures for row in rows])
        axes.bar(days, [row.figures.inspected for row in rows], color="#b9c4cd", width=0.8)
        axes.bar(
            days,
            [row.figures.failed for row in rows],
            bottom=[row.figures.inspected for row in rows],
            color=FLAG,
            width=0.8,
        )
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylabel("images (red: failed)")

    # Of a night under several settings, the last: its images are the same.
    return _drawn(list({row.figures.day: row for row in rows}.values()), panel, size=HALF)


def figure(rows: Sequence[TrendRow], name: str, *, label: str, factor: float = 1.0) -> bytes:
    """Draw one of the figures of each night by its name."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        for colour, _, group in _by_settings(rows):
            _line(axes, group, value=lambda night: _times(factor, getattr(night, name)), colour=colour, label="")
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.set_ylabel(label)

    return _drawn(rows, panel, size=HALF)


def metrics(rows: Sequence[TrendRow], names: Iterable[str]) -> bytes:
    """Draw the metrics of the nights whose truth is known."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        for colour, name in zip(COLOURS, names, strict=False):
            _line(axes, rows, value=attrgetter(name), colour=colour, label=name)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("metrics")
        axes.legend(fontsize=8, loc="lower left", ncols=2)

    return _drawn(rows, panel, size=HALF)


def settings_in_use(rows: Sequence[TrendRow]) -> list[str]:
    """Return the fingerprints of the nights, in the order in which they came into use."""
    return list(dict.fromkeys(row.figures.fingerprint for row in rows))


def _drawn(rows: Sequence[TrendRow], panel: Panel, *, size: tuple[float, float]) -> bytes:
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=size)
        width, height = size
        drawing.subplots_adjust(left=0.75 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - 0.12 / height)
        axes = drawing.add_subplot()
        panel(axes, rows)
        first, last = _days([rows[0].figures, rows[-1].figures])
        # Of a young line the past is empty: dates to come would give the axis the name of the next month.
        axes.set_xlim(min(first, last + 1 - LEAST_DAYS) - MARGIN, last + MARGIN)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        locator = AutoDateLocator(minticks=2, maxticks=9)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        buffer = io.BytesIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def _by_settings(rows: Sequence[TrendRow]) -> Iterator[tuple[str, str, list[TrendRow]]]:
    for number, fingerprint in enumerate(settings_in_use(rows)):
        group = [row for row in rows if row.figures.fingerprint == fingerprint]
        yield COLOURS[number % len(COLOURS)], fingerprint, group


def _line(
    axes: Axes,
    rows: Sequence[TrendRow],
    *,
    value: Value,
    colour: str,
    label: str,
) -> None:
    days, values = _points(rows, value)
    few = len(days) <= 60
    axes.plot(days, values, color=colour, linewidth=1.3, marker="o", markersize=3.5 if few else 0, label=label)


def _flags(axes: Axes, rows: Sequence[TrendRow], *, value: Value) -> None:
    days, values = _points(rows, value)
    axes.plot(days, values, color=FLAG, linestyle="none", marker="o", markersize=7, zorder=5)


def _ordinary(axes: Axes, rows: Sequence[tuple[TrendRow, Departure | None]], *, factor: float) -> None:
    for fingerprint in settings_in_use([row for row, _ in rows]):
        judged = [(row.figures, d) for row, d in rows if d and row.figures.fingerprint == fingerprint]
        days = _days([night for night, _ in judged])
        low, high = [factor * d.lowest for _, d in judged], [factor * d.highest for _, d in judged]
        axes.fill_between(days, low, high, color=BAND, linewidth=0)


def _days(nights: Iterable[NightFigures]) -> Numbers:
    return np.asarray(date2num([night.day for night in nights]), dtype=np.float64)


def _points(rows: Sequence[TrendRow], value: Value) -> tuple[Numbers, Numbers]:
    known = [(row.figures, number) for row in rows if (number := value(row.figures)) is not None]
    return _days([night for night, _ in known]), np.array([number for _, number in known], dtype=np.float64)


def _times(factor: float, number: float | None) -> float | None:
    return None if number is None else factor * number
