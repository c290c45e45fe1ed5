"""Figure: every cell of the table as a row; every seed a dot, the mean with its interval beneath, test accuracy on the x axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Panel
from gapbench.analysis.stats import t_interval
from gapbench.report.drawing import Series, arm_series, counts_text, panel_figure, setting_of, settings
from gapbench.report.marks import mark, mark_bars
from gapbench.report.style import MUTED, SHADE, regime_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

DOTS, MEAN = -0.13, 0.21
"""Where in its row (which is 1 high, downwards) a cell's dots and its mean stand."""
REACH = 1.0
"""How far beyond the dots the axis goes for the sake of intervals, in widths of the range of all dots."""


def seeds_figure(panels: Sequence[Panel]) -> Figure:
    """Returns the figure, one axes per panel, its cells in table order from top to bottom."""

    def measured(panel: Panel) -> bool:
        return panel.headline == "test_accuracy" and any(cell.ok_runs for cell in panel.cells)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        axes = part.subplots()
        rows = _rows(panel)
        for position, series in enumerate(rows):
            if position % 2:
                axes.axhspan(position - 0.5, position + 0.5, color=SHADE, linewidth=0, zorder=0)
            _draw_row(axes, series, position)
        for reference in (cell for cell in panel.cells if cell.reference and cell.ok_runs):
            mean = 100 * _mean([*reference.column("test_accuracy").values()])
            axes.axvline(mean, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_yticks(range(len(rows)), [_row_label(series) for series in rows])
        axes.tick_params(axis="y", length=0)
        axes.yaxis.grid(visible=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("test accuracy (%)")
        _bound(axes, panel, rows)
        return [axes]

    caption = (
        "Dots: seeds; marks and bars: mean and pointwise 95 % t interval of the mean, none from one seed; dashed line: mean of the "
        f"reference cell. {counts_text(panels)} An arrow: the interval goes on beyond the axis."
    )
    if not any(_leaves(series, *_bounds(panel)) for panel in panels if measured(panel) for series in _rows(panel)):
        caption = caption.removesuffix(" An arrow: the interval goes on beyond the axis.")
    return panel_figure(panels, 7.6, lambda panel: 0.75 + 0.36 * max(2, len(panel.cells)), measured, draw, caption)


def _rows(panel: Panel) -> list[Series]:
    """Returns the cells of a panel in table order, in the style that they have in the other figures."""
    arms, grid = [cell for cell in panel.cells if cell.arm], [cell for cell in panel.cells if not cell.arm]
    styles = {id(one.cell): one for one in arm_series(arms)}
    regimes, ghosts = list(dict.fromkeys(setting[0] for setting in settings(grid))), sorted({cell.ghost_batch_size or 0 for cell in grid})
    for cell in grid:
        setting = setting_of(cell)
        styles[id(cell)] = Series(cell, cell.name, regime_style(regimes.index(setting[0]), ghosts.index(setting[1] or 0)))
    return [styles[id(cell)] for cell in panel.cells]


def _row_label(series: Series) -> str:
    cell = series.cell
    if cell.complete:
        return f"{series.label}, n = {len(cell.groups)}"
    return f"{series.label}, {len(cell.ok_runs)} of {len(cell.runs)} ok"


def _draw_row(axes: Axes, series: Series, position: int) -> None:
    style = series.style
    runs = sorted(series.cell.ok_runs, key=lambda run: run.numbers["test_accuracy"])
    dots = [100 * run.numbers["test_accuracy"] for run in runs]
    places = [position + DOTS - 0.085 * rank for rank in _ranks(dots)]
    (drawn,) = axes.plot(
        dots, places, linestyle="none", marker="o", markersize=4.2, color=style.color, alpha=0.55, markeredgewidth=0, zorder=3
    )
    mark(drawn, series.cell, texts=[f"{series.cell.name}, seed {run.seed}: {dot:.2f} %" for run, dot in zip(runs, dots, strict=True)])
    estimate = t_interval([100 * value for value in series.cell.column("test_accuracy").values()])
    if estimate is None:
        return
    bars = axes.errorbar(
        estimate.mean, position + MEAN, xerr=estimate.half_width, color=style.color, marker=style.marker, markersize=5.5,
        markerfacecolor=style.marker_face, linestyle="none", elinewidth=1.3, capsize=2.6, zorder=4,
    )  # fmt: skip
    mark_bars(bars, series.cell, estimate)


def _ranks(values: Sequence[float]) -> list[int]:
    """Returns how many equal values precede each, so that they can be stacked; at most four high, as a row has an end."""
    return [min(3, sum(abs(value - other) < 0.005 for other in values[:position])) for position, value in enumerate(values)]


def _bound(axes: Axes, panel: Panel, rows: Sequence[Series]) -> None:
    """Ends the axis where the intervals end or, before, at REACH; an interval that goes on gets an arrow there."""
    low, high = _bounds(panel)
    axes.set_xlim(low, high)
    inside = 0.007 * (high - low)
    for position, series in enumerate(rows):
        for side, marker, inwards in zip(_leaves(series, low, high), ("<", ">"), (inside, -inside), strict=False):
            if side is not None:
                (arrow,) = axes.plot(side + inwards, position + MEAN, marker=marker, markersize=6, color=series.style.color, zorder=5)
                mark(arrow, series.cell, texts=())


def _leaves(series: Series, low: float, high: float) -> list[float | None]:
    """Returns where the interval of a cell leaves the axis on the left and on the right; empty where it does not."""
    estimate = t_interval([100 * value for value in series.cell.column("test_accuracy").values()])
    if estimate is None or estimate.low is None or estimate.high is None:
        return []
    sides = [low if estimate.low < low else None, high if estimate.high > high and high < 100 else None]
    return sides if any(side is not None for side in sides) else []


def _bounds(panel: Panel) -> tuple[float, float]:
    """Returns the ends of the axis: at least a percentage point, nothing beyond 100 %."""
    dots = [100 * run.numbers["test_accuracy"] for cell in panel.cells for run in cell.ok_runs]
    found = [t_interval([100 * value for value in cell.column("test_accuracy").values()]) for cell in panel.cells]
    ends = dots + [end for one in found if one for end in (one.low, one.high) if end is not None]
    reach = max(0.5, REACH * (max(dots) - min(dots)))
    low, high = max(min(ends), min(dots) - reach), min(max(ends), max(dots) + reach)
    middle, half = (low + high) / 2, max(0.5, 0.54 * (high - low))
    return middle - half, min(middle + half, 100.15)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
