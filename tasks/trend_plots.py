"""The plots of a line's nights, as SVG: one panel a figure, flagged nights in red.

Along the axis are days: lines and bands end where a night is missing. Nights under other settings than the latest have
dotted lines, and hollow marks where they are few.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from tasks.night_figures import NightFigures
from tasks.trends import TrendRow, latest_settings

INK, FAINT, GRID, BAND, FLAG = "#1c2126", "#66707a", "#e6eaed", "#dfe5ea", "#b3261e"
COLOURS = ("#2f5d8a", "#c77d1f", "#009e73", "#b3609a", "#6b7075")
"""Colours of settings, in the order they came into use, and of metrics; distinct also for red-green blindness."""

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
HALF_A_DAY = 0.5
MOST_MARKED = 60
"""Most nights that all have marks; of more, only those have one that no line leads to."""
LEAST_DAYS = 14
WIDE, HALF = (12.0, 2.7), (5.9, 2.3)

MARKS = ("o", "s", "^", "v", "P")
"""Marks of the metrics: whoever cannot tell their colours can tell these."""
FLAG_MARK = "D"

Panel = Callable[[Axes, Sequence[TrendRow]], None]
Value = Callable[[NightFigures], float | None]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Group:
    """The nights under the same settings, and whether those are the latest."""

    rows: Sequence[TrendRow]
    colour: str
    latest: bool


def defect_rates(rows: Sequence[TrendRow]) -> bytes:
    """Draw the defect rate of each night, over the range that raises no flag."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        _ordinary(axes, rows, factor=100)
        for group in _by_settings(rows):
            _line(axes, group, value=lambda night: _times(100, night.defect_rate))
        _flags(axes, [row for row in rows if row.jump], value=lambda night: _times(100, night.defect_rate))
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.set_ylabel("defect rate, %")

    return _drawn(rows, panel, size=WIDE)


def scores(rows: Sequence[TrendRow]) -> bytes:
    """Draw the quantiles of the scores of each night."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        for group in _by_settings(rows):
            nights = [row.figures for row in group.rows if row.figures.score_q10 is not None]
            quantiles = (
                np.array([getattr(night, name) for night in nights], dtype=np.float64)
                for name in ("score_q10", "score_q90", "score_q99")
            )
            for days, low, high, few in _over_whole_days(_days(nights), *quantiles):
                axes.fill_between(days, low, high, color=group.colour, alpha=0.16, linewidth=0)
                axes.plot(days, few, color=group.colour, linewidth=0.8, linestyle=(0, (4, 3)))
            _line(axes, group, value=lambda night: night.score_q50)
        _flags(axes, [row for row in rows if row.drift], value=lambda night: night.score_q50)
        axes.set_yscale("symlog", linthresh=2)
        # Left to itself, the axis has ticks at 0 and its ends alone where all scores lie within its linear part.
        axes.yaxis.set_major_locator(FixedLocator([-10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        # Up to the default alarm level, which good nights stay below.
        axes.set_ylim(top=max(1.1, axes.get_ylim()[1]))
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
        for group in _by_settings(rows):
            _line(axes, group, value=lambda night: _times(factor, getattr(night, name)))
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.set_ylabel(label)

    return _drawn(rows, panel, size=HALF)


def metrics(rows: Sequence[TrendRow], names: Iterable[str]) -> bytes:
    """Draw the metrics of the nights whose truth is known."""

    def panel(axes: Axes, rows: Sequence[TrendRow]) -> None:
        for colour, name, mark in zip(COLOURS, names, MARKS, strict=False):
            for group in _by_settings(rows):
                _line(axes, replace(group, colour=colour), value=attrgetter(name), mark=mark)
            axes.plot([], [], color=colour, linewidth=1.3, marker=mark, markersize=3.5, label=name)
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


def _by_settings(rows: Sequence[TrendRow]) -> Iterator[_Group]:
    for number, fingerprint in enumerate(settings_in_use(rows)):
        yield _Group(
            rows=[row for row in rows if row.figures.fingerprint == fingerprint],
            colour=COLOURS[number % len(COLOURS)],
            latest=fingerprint == latest_settings(rows),
        )


def _line(axes: Axes, group: _Group, *, value: Value, mark: str = "o") -> None:
    days, values = _points(group.rows, value)
    for run in _runs(days):
        axes.plot(
            days[run],
            values[run],
            color=group.colour,
            linewidth=1.3,
            linestyle="-" if group.latest else ":",
            marker=mark if len(days) <= MOST_MARKED or len(run) == 1 else "",
            markersize=3.5,
            markerfacecolor=group.colour if group.latest else "white",
        )


def _flags(axes: Axes, rows: Sequence[TrendRow], *, value: Value) -> None:
    days, values = _points(rows, value)
    axes.plot(days, values, color=FLAG, linestyle="none", marker=FLAG_MARK, markersize=6, zorder=5)


def _ordinary(axes: Axes, rows: Sequence[TrendRow], *, factor: float) -> None:
    for group in _by_settings(rows):
        judged = [(row.figures, row.rate) for row in group.rows if row.rate]
        ends = (np.array([getattr(rate, end) for _, rate in judged]) for end in ("lowest", "highest"))
        for days, low, high in _over_whole_days(_days([night for night, _ in judged]), *ends):
            axes.fill_between(days, factor * low, factor * high, color=BAND, linewidth=0)


def _over_whole_days(days: Numbers, *series: Numbers) -> Iterator[tuple[Numbers, ...]]:
    """Yield the runs of successive days with what is known of them, from half a day before to half a day after.

    So a single night has a band, too: a day wide.
    """
    for run in _runs(days):
        edges = np.concatenate([[days[run[0]] - HALF_A_DAY], days[run], [days[run[-1]] + HALF_A_DAY]])
        yield edges, *(np.pad(values[run], 1, mode="edge") for values in series)


def _runs(days: Numbers) -> list[npt.NDArray[np.intp]]:
    """Return the places of successive days, in runs that end where a day is missing."""
    return np.split(np.arange(len(days)), np.flatnonzero(np.diff(days) > 1) + 1) if len(days) else []


def _days(nights: Iterable[NightFigures]) -> Numbers:
    return np.asarray(date2num([night.day for night in nights]), dtype=np.float64)


def _points(rows: Sequence[TrendRow], value: Value) -> tuple[Numbers, Numbers]:
    known = [(row.figures, number) for row in rows if (number := value(row.figures)) is not None]
    return _days([night for night, _ in known]), np.array([number for _, number in known], dtype=np.float64)


def _times(factor: float, number: float | None) -> float | None:
    return None if number is None else factor * number
