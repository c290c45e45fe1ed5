"""The bench's figure: every ratio with its interval, goals as ticks; speedups on a log axis, costs and shares of the roofline below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gapbench.bench.cases import KINDS
from gapbench.bench.summary import OPEN, REACHED, SHORT, BenchReport, Row, goal_column, ratio_text
from gapbench.report.drawing import row_axis
from gapbench.report.style import INK, MUTED, OKABE_ITO, SHADE, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_HEIGHT = 0.27
PANEL_HEIGHT = 0.8
"""Inches of a panel's title, axis and label."""
WIDTH = 9.6

STYLES: dict[str, tuple[Any, str, str]] = {
    REACHED: (OKABE_ITO[3], "o", "goal reached"),
    OPEN: (OKABE_ITO[5], "D", "open: too near the goal to tell"),
    SHORT: (OKABE_ITO[2], "X", "short of the goal"),
    "": (OKABE_ITO[1], "s", "no goal set"),
}
"""By verdict: colour, marker, meaning. Never told by colour alone."""


def bench_figure(report: BenchReport) -> Figure:
    """Returns the figure, one group of panels a machine. The report has rows."""
    panels = [
        (machine, kind, rows)
        for machine in dict.fromkeys(row.machine for row in report.rows)
        for kind in KINDS
        if (rows := [row for row in report.rows if row.machine == machine and row.kind == kind])
    ]
    heights = [PANEL_HEIGHT + ROW_HEIGHT * len(rows) for *_, rows in panels]
    caption = textwrap.wrap(_caption(report), 150)
    below = 0.42 + 0.17 * len(caption)
    figure = new_figure(WIDTH, sum(heights) + below)
    places = figure.subplots(len(panels) + 1, 1, squeeze=False, height_ratios=[*heights, below])[:, 0]  # one grid: axes line up
    named = None
    for axes, (machine, kind, rows) in zip(places, panels, strict=False):
        if machine != named:
            axes.set_title(literal(machine), fontsize=10.5, fontweight="bold")
            named = machine
        _draw(axes, kind, rows)
    _legend(places[-1], report, caption)
    return figure


def _draw(axes: Axes, kind: str, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color=SHADE, zorder=0, linewidth=0)
        color, marker, _ = STYLES.get(row.verdict, STYLES[""])
        ratio = row.ratio
        if ratio.low is not None and ratio.high is not None:
            ends = [ratio.low, ratio.high]
            axes.plot(ends, [place, place], color=color, linewidth=1.6, marker="|", markersize=9, markeredgewidth=1.4, zorder=3)
        face = color if not row.loaded else "white"
        axes.plot([ratio.estimate], [place], marker=marker, color=color, markerfacecolor=face, markersize=5, linestyle="none", zorder=4)
        for goal in _goals(row):
            axes.plot([goal, goal], [place - 0.36, place + 0.36], color=INK, linewidth=1.6, zorder=2)
        for left, text in ((1.015, ratio_text(ratio, row.kind)), (1.325, goal_column(row))):
            axes.text(left, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    if kind != "share":
        axes.axvline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    row_axis(axes, [f"{row.case}: {row.what}" for row in rows])
    axes.set_xlabel(KINDS[kind].axis)
    _scale(axes, kind, rows)


def _goals(row: Row) -> list[float]:
    """Returns the ratios at which a row's goal is just met."""
    return [] if row.goal is None else [end for end in KINDS[row.kind].bounds(row.goal) if end is not None]


def _scale(axes: Axes, kind: str, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

    values = [value for row in rows for value in (row.ratio.estimate, row.ratio.low, row.ratio.high, *_goals(row)) if value is not None]
    if kind == "share":
        axes.set_xlim(0.0, max(1.0, *values))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        return
    low, high = min(1.0, *values), max(1.0, *values)
    if KINDS[kind].in_seconds:
        room = 0.08 * max(high - low, 0.02)
        axes.set_xlim(low - room, high + room)
        return
    axes.set_xscale("log")
    axes.set_xlim(low / 1.15, high * 1.15)
    steps = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
    axes.xaxis.set_major_locator(FixedLocator([step for step in steps if low / 1.15 <= step <= high * 1.15]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))


def _legend(axes: Axes, report: BenchReport, caption: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    found = {row.verdict if row.verdict in STYLES else "" for row in report.rows}
    used = [verdict for verdict in STYLES if verdict in found]
    handles = [
        Line2D([], [], color=STYLES[verdict][0], marker=STYLES[verdict][1], linewidth=2.2, label=STYLES[verdict][2]) for verdict in used
    ]
    if any(row.goal is not None for row in report.rows):
        handles.append(Line2D([], [], color=INK, marker="|", markersize=10, markeredgewidth=1.6, linestyle="none", label="goal"))
    axes.set_axis_off()
    axes.legend(handles=handles, loc="upper center", ncols=len(handles), borderaxespad=0.0)
    axes.text(0.5, 0.0, "\n".join(caption), ha="center", va="bottom", fontsize=8, color=MUTED, linespacing=1.35, transform=axes.transAxes)


def _caption(report: BenchReport) -> str:
    rounds = sorted({row.rounds for row in report.rows})
    count = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    text = f"Ratio of medians over {count} rounds, sides in turns; bar: 95 % bootstrap interval over rounds."
    if any(row.loaded for row in report.rows):
        text += " Open marks: timed on a loaded machine, not to be quoted."
    return text
