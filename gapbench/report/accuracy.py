"""Figures of test accuracy at the end: against batch size, and of every cell a row; every seed a dot, the mean with its interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import Cell, Panel, in_unit
from gapbench.analysis.paper import published_value
from gapbench.catalog import Metric
from gapbench.report.drawing import (
    MOST_ARMS,
    OTHERS,
    PAPER_LABEL,
    Series,
    Setting,
    arm_series,
    arms_and_grid,
    counts_text,
    panel_figure,
    row_axis,
    setting_of,
    setting_styles,
    setting_text,
)
from gapbench.report.marks import mark, mark_bars
from gapbench.report.scales import axis_label, is_share, least_half_width, mean_text, shown_estimate, value_text
from gapbench.report.style import MUTED, PAPER, SHADE, Style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

DOTS, MEAN = -0.13, 0.21
"""Where in its row (which is 1 high, downwards) a cell's dots and its mean stand."""
REACH = 0.3
"""How far beyond the dots the axis goes for the sake of intervals, in widths of the range of all dots."""
FEW = 3
"""Seeds from which on an interval has a say in where the axis ends: that of two is 13 standard errors wide."""
_INSIDE = 0.007
"""How far from the end of an axis an arrow stands, in widths of the axis."""
ARROW = " An arrow: the interval goes on beyond the axis."


def accuracy_figure(panels: Sequence[Panel]) -> Figure:
    """Returns test accuracy against batch size, one axes for the arms of a panel, one for its grid by regime and ghost setting."""

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        arms, grid = arms_and_grid(panel)
        places = list(part.subplots(1, bool(arms) + bool(grid), squeeze=False, sharey=True).flat)
        if arms:
            _draw_arms(places[0], panel, arms)
        if grid:
            _draw_grid(places[-1], panel, grid)
        metric = panel.metric
        for axes, mean in itertools.product(places, _reference_means(panel)):
            axes.axhline(mean, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        places[0].set_ylabel(axis_label(metric))
        places[0].set_ylim(*_bounds(panel))
        return places

    caption = (
        "Dots: seeds; marks and bars: mean and pointwise 95 % t interval, none from one seed; dashed line: mean of the reference cell. "
        f"{counts_text(panels)} Marks side by side have the same batch size."
    ) + _arrow_caption(panels)
    both = any(all(arms_and_grid(panel)) for panel in panels)
    return panel_figure(panels, 7.8 if both else 5.6, lambda _: 3.6, _measured, draw, caption, _labels)


def _labels(panels: Sequence[Panel]) -> list[str]:
    """The labels that a legend may hold."""
    labels = [PAPER_LABEL]
    for panel in panels:
        arms, grid = arms_and_grid(panel)
        labels += [f"{one.label}, 10 of 10 ok" for one in _told_apart(arm_series(arms), panel.metric)]
        labels += [label for label, _ in _settings_told_apart(grid, panel.metric).values()]
    return labels


def _draw_arms(axes: Axes, panel: Panel, arms: Sequence[Cell]) -> None:
    """Draws arms of one batch size side by side, in table order, on a shade that holds them together."""
    series = _told_apart(arm_series(arms), panel.metric)
    sizes = sorted({cell.batch_size for cell in arms})
    room = min((math.log2(after / before) for before, after in itertools.pairwise(sizes)), default=2.0)
    most = max(sum(cell.batch_size == size for cell in arms) for size in sizes)
    step = min(0.86 * room / most, 0.2 * room)
    for size in sizes:
        own = [one for one in series if one.cell.batch_size == size]
        half = 2 ** (step * len(own) / 2)
        axes.axvspan(size / half, size * half, color=SHADE, linewidth=0, zorder=0)
        for position, one in enumerate(own):
            x = size * 2 ** (step * (position - (len(own) - 1) / 2))
            _draw_cell(axes, panel, one, x, step=step, joined=False)
    _batch_axis(axes, sizes)
    margin = 2 ** (0.62 * step * most + 0.1 * room)
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)


def _draw_grid(axes: Axes, panel: Panel, grid: Sequence[Cell]) -> None:
    """Draws one line per regime and ghost setting, set off a little so that intervals do not hide one another."""
    found = _settings_told_apart(grid, panel.metric)
    sizes = sorted({cell.batch_size for cell in grid})
    room = min((math.log2(after / before) for before, after in itertools.pairwise(sizes)), default=3.2)
    step = min(0.14, 0.72 * room / len(found))
    for position, (setting, (text, style)) in enumerate(found.items()):
        offset = 2 ** (step * (position - (len(found) - 1) / 2))
        own = sorted((cell for cell in grid if setting_of(cell) == setting and cell.ok_runs), key=lambda cell: cell.batch_size)
        line = [(cell.batch_size * offset, _mean(cell, panel.metric)) for cell in own]
        for (before, after), (start, end) in zip(itertools.pairwise(own), itertools.pairwise(line), strict=True):
            (part,) = axes.plot(*zip(start, end, strict=True), color=style.color, linestyle=style.dashes, linewidth=1.1, alpha=0.8)
            mark(part, before, after, texts=())
        for number, cell in enumerate(own):
            label = text if number == 0 else ""
            _draw_cell(axes, panel, Series(cell, label, style), cell.batch_size * offset, step=step, joined=True)
    _batch_axis(axes, sizes)


def _told_apart(series: Sequence[Series], metric: Metric) -> Sequence[Series]:
    """Returns the arms as they are where they are few, else the reference and the best one in colour and the others gray."""
    if len(series) <= MOST_ARMS:
        return series
    coloured = [id(cell) for cell in _best_and_reference([one.cell for one in series], metric)]
    return [one if id(one.cell) in coloured else Series(one.cell, OTHERS, replace(one.style, color=PAPER)) for one in series]


def _settings_told_apart(grid: Sequence[Cell], metric: Metric) -> dict[Setting, tuple[str, Style]]:
    """Returns label and style of the settings of a grid: where they are many, in colour those of the reference and of the best cell."""
    found = {setting: (setting_text(setting, grid), style) for setting, style in setting_styles(grid).items()}
    if len(found) <= MOST_ARMS:
        return found
    coloured = {setting_of(cell) for cell in _best_and_reference(grid, metric)}
    return {
        setting: (text, style) if setting in coloured else (OTHERS, replace(style, color=PAPER)) for setting, (text, style) in found.items()
    }


def _best_and_reference(cells: Sequence[Cell], metric: Metric) -> list[Cell]:
    """Returns the cells that stand out: those that others are held against, and of these others the one with the best mean."""
    others = [cell for cell in cells if cell.ok_runs and not cell.reference]
    sign = 1.0 if metric.direction == "higher" else -1.0
    best = max(others, key=lambda cell: sign * _mean(cell, metric), default=None)
    return [cell for cell in cells if cell.reference] + ([] if best is None else [best])


def _draw_cell(axes: Axes, panel: Panel, series: Series, x: float, *, step: float, joined: bool) -> None:
    """Draws mean and interval of a cell, its seeds a little to the left, and the paper's value; `step` is its room in octaves."""
    cell, style, metric = series.cell, series.style, panel.metric
    values = [*in_unit(cell, metric).values()]
    left = [x * 2 ** (step * ((-0.46 if joined else -0.26) + offset)) for offset in _spread(values)]
    (dots,) = axes.plot(left, values, markersize=3.4, alpha=0.45, **_dot(style))
    said = [f"{cell.name}, {of}: {value_text(metric, value)}" for of, value in zip(sample_names(cell), values, strict=True)]
    mark(dots, cell, texts=said)
    estimate = shown_estimate(cell, metric)
    if estimate is not None:
        counted = "" if cell.complete or series.label in ("", OTHERS) else f", {len(cell.ok_runs)} of {len(cell.runs)} ok"
        bars = axes.errorbar(
            x * 2 ** (0.1 * step), estimate.mean, yerr=estimate.half_width, linewidth=1.1, label=literal(series.label + counted) or None,
            **_bar(style, style.dashes if joined else "none"),
        )  # fmt: skip
        mark_bars(bars, cell, mean_text(metric, estimate))
        low, high = _bounds(panel)
        for end, side in _arrows(panel, cell, low, high):
            inside = _INSIDE * (high - low) * (1 if side == "<" else -1)
            (arrow,) = axes.plot(
                x * 2 ** (0.1 * step), end + inside, marker={"<": "v", ">": "^"}[side], markersize=6, color=style.color, zorder=5
            )  # fmt: skip
            mark(arrow, cell, texts=())
    published = published_value(panel, cell)
    if published is not None:
        place, number = x * 2 ** (0.38 * step), metric.shown(published.test_accuracy)
        (star,) = axes.plot(
            place, number, marker="*", markersize=10, color=PAPER, markeredgecolor="white", linestyle="none",
            label=PAPER_LABEL,
        )  # fmt: skip
        mark(star, cell, texts=[f"{cell.name} in the paper: {value_text(metric, number)}"])


def _dot(style: Style) -> dict[str, Any]:
    """How a seed is drawn."""
    return {"linestyle": "none", "marker": "o", "color": style.color, "markeredgewidth": 0}


def _bar(style: Style, dashes: Any = "none") -> dict[str, Any]:
    """How a mean with its interval is drawn."""
    return {**style.line, "linestyle": dashes, "markersize": 5.5, "elinewidth": 1.3, "capsize": 2.6}


def sample_names(cell: Cell) -> list[str]:
    """Returns what each value of a headline's `cell.column(...)` is of: "seed 3", or the split that seeds share."""
    if cell.split_drawn:
        return [f"split {key}" for key in cell.groups]
    return [f"seed {run.seed}" for run in cell.ok_runs]


def _spread(values: Sequence[float]) -> list[float]:
    """Returns sideways offsets (shares of a step) that keep equal values apart."""
    seen: dict[float, int] = {}
    offsets = []
    for value in values:
        key = round(value, 2)
        seen[key] = seen.get(key, 0) + 1
        offsets.append(-0.07 * (seen[key] - 1))
    return offsets


def _batch_axis(axes: Axes, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.grid(visible=False)
    axes.set_xlabel("batch size (examples, log scale)")
    if len(sizes) == 1:
        axes.set_xlim(sizes[0] / 4, sizes[0] * 4)


def seeds_figure(panels: Sequence[Panel]) -> Figure:
    """Returns one axes per panel, its cells in table order from top to bottom, with test accuracy on the x axis."""

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        axes = part.subplots()
        rows = _rows(panel)
        for position, series in enumerate(rows):
            if position % 2:
                axes.axhspan(position - 0.5, position + 0.5, color=SHADE, linewidth=0, zorder=0)
            _draw_row(axes, panel.metric, series, position)
        for mean in _reference_means(panel):
            axes.axvline(mean, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        row_axis(axes, [_row_label(series) for series in rows])
        axes.set_xlabel(axis_label(panel.metric))
        _bound(axes, panel, rows)
        return [axes]

    caption = (
        "Dots: seeds; marks and bars: mean and pointwise 95 % t interval of the mean, none from one seed; dashed line: mean of the "
        f"reference cell. {counts_text(panels)}"
    )
    caption += _arrow_caption(panels)
    return panel_figure(panels, 7.6, lambda panel: 0.75 + 0.36 * max(2, len(panel.cells)), _measured, draw, caption)


def _arrow_caption(panels: Sequence[Panel]) -> str:
    leaves = any(_arrows(panel, cell, *_bounds(panel)) for panel in panels if _measured(panel) for cell in panel.cells)
    return ARROW if leaves else ""


def _rows(panel: Panel) -> list[Series]:
    """Returns the cells of a panel in table order, in the style that they have in the other figures."""
    arms, grid = arms_and_grid(panel)
    styles = setting_styles(grid)
    series = [*arm_series(arms), *(Series(cell, cell.name, styles[setting_of(cell)]) for cell in grid)]
    by_cell = {id(one.cell): one for one in series}
    return [by_cell[id(cell)] for cell in panel.cells]


def _row_label(series: Series) -> str:
    cell = series.cell
    if cell.complete:
        return f"{series.label}, n = {len(cell.groups)}"
    return f"{series.label}, {len(cell.ok_runs)} of {len(cell.runs)} ok"


def _draw_row(axes: Axes, metric: Metric, series: Series, position: int) -> None:
    cell, style, column = series.cell, series.style, metric.column("test")
    runs = sorted(cell.ok_runs, key=lambda run: run.numbers[column])
    dots = [metric.shown(run.numbers[column]) for run in runs]
    places = [position + DOTS - 0.085 * rank for rank in _ranks(dots)]
    (drawn,) = axes.plot(dots, places, markersize=4.2, alpha=0.55, zorder=3, **_dot(style))
    mark(drawn, cell, texts=[f"{cell.name}, seed {run.seed}: {value_text(metric, dot)}" for run, dot in zip(runs, dots, strict=True)])
    estimate = shown_estimate(cell, metric)
    if estimate is None:
        return
    bars = axes.errorbar(estimate.mean, position + MEAN, xerr=estimate.half_width, zorder=4, **_bar(style))
    mark_bars(bars, cell, mean_text(metric, estimate))


def _ranks(values: Sequence[float]) -> list[int]:
    """Returns how many equal values precede each, so that they can be stacked; at most four high, as a row has an end."""
    return [min(3, sum(abs(value - other) < 0.005 for other in values[:position])) for position, value in enumerate(values)]


def _bound(axes: Axes, panel: Panel, rows: Sequence[Series]) -> None:
    """Ends the axis where the intervals end or, before, at REACH; an interval that goes on gets an arrow there."""
    low, high = _bounds(panel)
    axes.set_xlim(low, high)
    inside = _INSIDE * (high - low)
    for position, series in enumerate(rows):
        for end, marker in _arrows(panel, series.cell, low, high):
            place = end + inside if marker == "<" else end - inside
            (arrow,) = axes.plot(place, position + MEAN, marker=marker, markersize=6, color=series.style.color, zorder=5)
            mark(arrow, series.cell, texts=())


def _arrows(panel: Panel, cell: Cell, low: float, high: float) -> list[tuple[float, str]]:
    """Returns where the interval of a cell leaves the axis, left and right, with the markers that say so."""
    estimate = shown_estimate(cell, panel.metric)
    if estimate is None or estimate.low is None or estimate.high is None:
        return []
    arrows = [
        (low, "<", estimate.low < low and low > panel.metric.shown(0.0)),
        (high, ">", estimate.high > high and high < panel.metric.shown(1.0)),
    ]
    return [(end, marker) for end, marker, leaves in arrows if leaves]


def _bounds(panel: Panel) -> tuple[float, float]:
    """Returns the ends of the axis: at least a notable gap apart, nothing below 0 or beyond 100 %."""
    metric = panel.metric
    least = least_half_width(metric)
    dots = [metric.shown(run.numbers[metric.column("test")]) for cell in panel.cells for run in cell.ok_runs]
    found = [shown_estimate(cell, metric) for cell in panel.cells if len(cell.groups) >= FEW]
    ends = dots + [end for one in found if one for end in (one.low, one.high) if end is not None]
    reach = max(least, REACH * (max(dots) - min(dots)))
    low, high = max(min(ends), min(dots) - reach), min(max(ends), max(dots) + reach)
    middle, half = (low + high) / 2, max(least, 0.54 * (high - low))
    return max(middle - half, metric.shown(0.0) - 0.15), min(middle + half, metric.shown(1.0) + 0.15)


def _measured(panel: Panel) -> bool:
    return is_share(panel.metric) and any(cell.ok_runs for cell in panel.cells)


def _reference_means(panel: Panel) -> list[float]:
    return [_mean(cell, panel.metric) for cell in panel.cells if cell.reference and cell.ok_runs]


def _mean(cell: Cell, metric: Metric) -> float:
    values = [*cell.column(metric.column("test")).values()]
    return metric.shown(math.fsum(values) / len(values))
