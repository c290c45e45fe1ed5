"""What figures share: which cells stand on one axes and in which style, curves over updates, and where things stand in a figure.

The arms of a panel share axes, or its grid is split by regime and ghost setting. Panels stand one below another, legends beside them, a
caption below all.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.curves import Curve, at_equal_examples, band
from gapbench.report.marks import CAPTION, mark, mark_entry, mark_of
from gapbench.report.style import MUTED, Style, arm_style, batch_style, literal, new_figure, regime_style, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

PAPER_LABEL = "paper (single run)"
OTHERS = "others: a row each in the figure of seeds"
BEHIND = "#9A9A9A"
"""Colour of a reference behind the curves of others."""
ENTRY = 0.185
"""Inches that an entry of a legend takes."""
ACROSS = 2
"""Axes of a grid that stand in one row."""
TITLE = 96
"""Letters of a title that the axes of a figure have room for, side by side."""
MOST_ARMS = 8
"""Curves of more arms than this in one axes are no longer told apart."""

_THIN: Any = (0, (1, 1.5))

Setting = tuple[str, ...]
"""The words of a cell's name but for its batch size: what cells on one line over batch sizes have in common."""


@dataclass(frozen=True)
class Series:
    """One curve: a cell with its label and style."""

    cell: Cell
    label: str
    style: Style


@dataclass(frozen=True)
class Facet:
    """One axes."""

    title: str
    """Empty for the arms of a panel, whose title says it all."""
    series: tuple[Series, ...]
    reference: Cell | None = None
    """Drawn behind the others where it is none of them."""


def arms_and_grid(panel: Panel) -> tuple[list[Cell], list[Cell]]:
    """Returns the cells of a panel that are arms, and those of its grid."""
    return [cell for cell in panel.cells if cell.arm], [cell for cell in panel.cells if not cell.arm]


def facets(panel: Panel) -> list[Facet]:
    """Returns the axes of a panel: one for its arms, one for each setting of its grid, with one curve per batch size there."""
    arms, grid = arms_and_grid(panel)
    out = _arm_facets(panel, arms)
    sizes = sorted({cell.batch_size for cell in grid})
    for setting in settings(grid):
        own = sorted((cell for cell in grid if setting_of(cell) == setting), key=lambda cell: cell.batch_size)
        unique = len({cell.batch_size for cell in own}) == len(own)
        series = tuple(
            Series(cell, f"batch size {cell.batch_size}" if unique else cell.name, batch_style(sizes.index(cell.batch_size), len(sizes)))
            for cell in own
        )
        reference = panel.reference_of(own[0])
        out.append(Facet(setting_text(setting, grid), series, None if reference in own else reference))
    return out


def _arm_facets(panel: Panel, arms: Sequence[Cell]) -> list[Facet]:
    """Returns one axes for the arms or, where they are too many to be told apart, several with the reference behind each."""
    series = arm_series(arms)
    if len(series) <= MOST_ARMS:
        return [Facet("", series)] if arms else []
    count = -(-len(series) // MOST_ARMS)
    bounds = [len(series) * part // count for part in range(count + 1)]
    reference = next((cell for cell in panel.cells if cell.reference), None)
    out = []
    for start, stop in itertools.pairwise(bounds):
        own = series[start:stop]
        behind = None if reference in [one.cell for one in own] else reference
        out.append(Facet(f"arms {start + 1} to {stop} of {len(series)}", own, behind))
    return out


def facet_shape(count: int) -> tuple[int, int]:
    """Returns rows and columns for a number of axes; four stand better two by two."""
    columns = 2 if count == 4 else min(3, max(1, count))
    return -(-max(1, count) // columns), columns


def facet_axes(part: SubFigure, own: Sequence[Facet]) -> list[Axes]:
    """Returns one axes for each facet under its title, all with the same scales; what is left of the last row is hidden."""
    rows, columns = facet_shape(len(own))
    places = list(part.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, facet in zip(places, own, strict=False):
        axes.set_title(literal(textwrap.fill(facet.title, TITLE // columns)))
    for axes in places[len(own) :]:
        axes.set_visible(False)
    return places[: len(own)]


def arm_series(arms: Sequence[Cell]) -> tuple[Series, ...]:
    """Returns the arms in table order; the reference arm comes in black."""
    ordered = sorted(arms, key=lambda cell: (not cell.reference, cell.order))
    styles = {id(cell): arm_style(position) for position, cell in enumerate(ordered)}
    several = len({cell.batch_size for cell in arms}) > 1
    return tuple(Series(cell, _with_batch(cell) if several else cell.name, styles[id(cell)]) for cell in arms)


def _with_batch(cell: Cell) -> str:
    """Returns a cell's name and batch size; in a grid of batch sizes the name says it already."""
    return cell.name if "batch_size" in cell.words else f"{cell.name} (B {cell.batch_size})"


def setting_of(cell: Cell) -> Setting:
    """Returns what a cell of a grid has in common with the same line at another batch size."""
    return tuple(text for key, text in cell.words.items() if key != "batch_size")


def settings(grid: Sequence[Cell]) -> list[Setting]:
    """Returns the settings of a grid in table order, ghost off before ghost on."""
    found = list(dict.fromkeys(map(setting_of, grid)))
    kinds = {setting: _kind(setting, grid) for setting in found}
    return sorted(found, key=lambda setting: kinds[setting].ghost_batch_size or 0)


def setting_styles(grid: Sequence[Cell]) -> dict[Setting, Style]:
    """Returns the style of every setting of a grid: its colour is its regime, dashes and marks say its ghost size."""
    kinds = {setting: _kind(setting, grid) for setting in settings(grid)}
    regimes = list(dict.fromkeys(cell.regime for cell in grid))
    ghosts = sorted({cell.ghost_batch_size or 0 for cell in kinds.values()})
    return {setting: regime_style(regimes.index(cell.regime), ghosts.index(cell.ghost_batch_size or 0)) for setting, cell in kinds.items()}


def setting_text(setting: Setting, grid: Sequence[Cell]) -> str:
    """Names a setting by the words of its cells' names that not all of the grid have; where there are none, by its regime."""
    shared = set.intersection(*(set(other) for other in settings(grid)))
    return ", ".join(text for text in setting if text not in shared) or _kind(setting, grid).regime


def _kind(setting: Setting, grid: Sequence[Cell]) -> Cell:
    """Returns the cell that a setting has its style from: that of the largest batch, since ghosts of the whole batch are no ghosts."""
    return max((cell for cell in grid if setting_of(cell) == setting), key=lambda cell: cell.batch_size)


def curve_labels(panels: Sequence[Panel]) -> list[str]:
    """Returns the labels that `draw_facet` may put into a legend."""
    own = [facet for panel in panels for facet in facets(panel)]
    return [series.label for facet in own for series in facet.series] + [reference_label(facet) for facet in own if facet.reference]


def draw_facet(axes: Axes, facet: Facet, curves: Mapping[str, Curve], *, logarithmic: bool = False) -> None:
    """Draws every series of a facet, the reference in gray where it is none of them."""
    if facet.reference is not None:
        found = band(_values(facet.reference, curves, logarithmic), logarithmic=logarithmic)
        if found is not None:
            (line,) = axes.plot(found.updates, found.mean, color=BEHIND, linewidth=2.6, alpha=0.55, label=literal(reference_label(facet)))
            mark(line, facet.reference, low=found.low, high=found.high)
    for position, series in enumerate(facet.series):
        _draw_series(axes, series, curves, position, logarithmic)


def reference_label(facet: Facet) -> str:
    """Returns the label of the reference behind an axes; empty where there is none."""
    return f"reference: {facet.reference.name}" if facet.reference else ""


def row_axis(axes: Axes, labels: Sequence[str]) -> None:
    """Makes the y axis rows with these labels, each 1 high, the first on top."""
    axes.set_yticks(range(len(labels)), [*map(literal, labels)])
    axes.tick_params(axis="y", length=0)
    axes.yaxis.grid(visible=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def update_axis(axes: Axes) -> None:
    """Makes the x axis the update count, logarithmic."""
    axes.set_xscale("log")
    axes.set_xlabel("updates (log scale)")
    axes.fmt_xdata = lambda value: f"update {value:.0f}"
    log_ticks(axes.xaxis)


def log_ticks(axis: Axis, *, between: bool = False) -> None:
    """Labels the powers of ten of a logarithmic axis and, with `between`, twice and five times these; nothing else."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if between else (1.0,)))
    axis.set_minor_formatter(NullFormatter())


def plain_numbers(axis: Axis, limits: tuple[float, float]) -> None:
    """Writes the numbers of a logarithmic axis as such, 200 and not 2 x 10^2, with some between the powers of ten where there is room."""
    low, high = sorted(limits)

    def text(value: float, _: float) -> str:
        if value >= 1e6:
            return f"{value / 1e6:g} million"
        return f"{value:,.0f}" if value >= 1 else f"{value:g}"

    log_ticks(axis, between=high < 100 * low)
    axis.set_major_formatter(text)


def counts_text(panels: Sequence[Panel]) -> str:
    """Returns "n = 8 in every cell." or its range: the number of values that an interval rests on."""
    counts = sorted({len(cell.groups) for panel in panels for cell in panel.cells})
    if not counts:
        return ""
    return f"n = {counts[0]} in every cell." if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} by cell."


def curve_caption(panels: Sequence[Panel], remark: str) -> str:
    """Returns the caption of curves over updates; what no panel shows is not explained."""
    cells = [cell for panel in panels for cell in panel.cells]
    counts = {len(cell.groups) for cell in cells}
    parts = [
        "Line: mean over seeds; band: pointwise 95 % t interval of the mean." if max(counts, default=0) > 2 else "Line: mean over seeds.",
        counts_text(panels),
    ]
    parts += ["Thin lines: each of two seeds."] if 2 in counts else []
    parts += (
        ["Thin dotted lines: runs that did not end ok, up to where they ended or left the axis."]
        if any(not cell.complete for cell in cells)
        else []
    )
    adaptive = "Seeds whose batch follows the noise scale are averaged at equal examples, and stand at their mean updates."
    parts += [adaptive] if any(cell.adaptive for cell in cells) else []
    return " ".join([*parts, remark])


def _values(cell: Cell, curves: Mapping[str, Curve], logarithmic: bool = False) -> list[Curve]:
    """Returns one curve for each value that the cell's intervals rest on: runs that share a drawn split are averaged first."""
    if cell.adaptive:  # their updates differ from seed to seed
        known = [run.run_id for run in cell.ok_runs if run.run_id in curves]
        curves = dict(zip(known, at_equal_examples([curves[run_id] for run_id in known], logarithmic=logarithmic), strict=True))
    groups = [[curves[run_id] for run_id in ids if run_id in curves] for ids in cell.groups.values()]
    means = [(own[0], band(own, logarithmic=logarithmic) if len(own) > 1 else None) for own in groups if own]
    return [first if mean is None else Curve(mean.updates, mean.mean) for first, mean in means]


def _draw_series(axes: Axes, series: Series, curves: Mapping[str, Curve], position: int, logarithmic: bool) -> None:
    """Draws one cell: mean and band of its ok runs, the others thin and dotted."""
    style = series.style
    own = _values(series.cell, curves, logarithmic)
    found = band(own, logarithmic=logarithmic)
    others = [curves[run.run_id] for run in series.cell.runs if not run.ok and run.run_id in curves]
    for curve in others:
        (thin,) = axes.plot(curve.updates, curve.values, color=style.color, linewidth=0.9, linestyle=_THIN)
        mark(thin, series.cell, texts=())
    if found is not None:
        for curve in own if found.n == 2 else ():  # the interval of two seeds is 13 standard errors wide and would hide everything
            (thin,) = axes.plot(curve.updates, curve.values, color=style.color, linewidth=0.6, alpha=0.6)
            mark(thin, series.cell, texts=())
        if found.n > 2 and found.low is not None and found.high is not None:
            shade = axes.fill_between(found.updates, found.low, found.high, color=style.color, alpha=0.18, linewidth=0)
            mark(shade, series.cell, texts=())
        # Markers at even distances on the page, each series starting elsewhere, so that curves on top of one another still show theirs.
        every: Any = 1 if len(found.updates) < 4 else (0.015 * (1 + position % 8), 0.14)
        (line,) = axes.plot(found.updates, found.mean, label=literal(series.label), markersize=4, markevery=every, **style.line)
        mark(line, series.cell, low=found.low, high=found.high)
    elif others:
        (line,) = axes.plot([], [], label=literal(f"{series.label}, none ok"), color=style.color, linewidth=0.9, linestyle=_THIN)
        mark(line, series.cell, texts=())


class Titled(Protocol):
    """What a band of a figure is of: a panel, or anything else with a title."""

    @property
    def title(self) -> str:
        """What stands above it."""


Part = TypeVar("Part", bound=Titled)


def panel_figure(
    panels: Sequence[Part],
    width: float,
    height: Callable[[Part], float],
    measured: Callable[[Part], bool],
    draw: Callable[[SubFigure, Part], Sequence[Axes]],
    caption: str,
    labels: Callable[[Sequence[Part]], Sequence[str]] = lambda _: (),
    *,
    missing: Callable[[Part], str] = lambda _: "No run has measured this yet.",
    nothing: str = "No run is planned.",
) -> Figure:
    """Returns a figure with one band of axes per panel under its title, its legend to the right of them, and a caption below all.

    Args:
        panels: models are never drawn into one another's axes.
        width: inches of axes; the legend's width is added.
        height: inches that a panel takes.
        measured: whether there is anything to draw for a panel.
        draw: draws such a panel and returns its axes.
        caption: what lines, bands and marks are.
        labels: returns those that the legend of some panels may hold, so that there is room for it; none where there is no legend.
        missing: what is said of a panel with nothing to draw.
        nothing: what is said where there is no panel.
    """
    if not panels:
        return sentence_figure(nothing, width)
    entries = [set(labels([panel])) for panel in panels]
    heights = [max(height(panel), 0.5 + ENTRY * len(own)) if measured(panel) else 1.0 for panel, own in zip(panels, entries, strict=True)]
    beside = 0.75 + 0.072 * max(map(len, set().union(*entries))) if any(entries) else 0.15
    figure, bands = captioned_figure(width + beside, heights, caption)
    for row, panel in zip(bands, panels, strict=True):
        row.suptitle(literal(panel.title), x=0.012, ha="left", fontsize=10.5, fontweight="bold")
        left, right = row.subfigures(1, 2, squeeze=False, width_ratios=[width, beside])[0]
        if measured(panel):
            _legend(right, draw(left, panel))
        else:
            say(left, missing(panel))
    return figure


def grid_figure(
    count: int, caption: str, *, size: tuple[float, float], margin: float = 0.0, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure of equal axes, two in a row, with a caption below all, and those axes.

    Args:
        count: number of axes, at least 1.
        caption: what lines, bands and marks are.
        size: inches of one of them.
        margin: inches that are added to the width.
        share_y: whether they have one y axis.
    """
    columns = min(ACROSS, count)
    rows = -(-count // columns)
    figure, (band,) = captioned_figure(size[0] * columns + margin, [size[1] * rows], caption)
    places = list(band.subplots(rows, columns, squeeze=False, sharey=share_y).flat)
    for axes in places[count:]:
        axes.set_axis_off()
    return figure, places[:count]


def captioned_figure(width: float, heights: Sequence[float], caption: str) -> tuple[Figure, list[SubFigure]]:
    """Returns a figure of empty bands, one below another, with a caption below all, and those bands.

    Args:
        width: inches of everything.
        heights: inches of each band.
        caption: what lines, bands and marks are; broken into lines that fit.
    """
    lines = textwrap.wrap(caption, int(17 * width))
    below = 0.12 + 0.16 * len(lines)
    figure = new_figure(width, sum(heights) + below)
    *bands, under = figure.subfigures(len(heights) + 1, 1, squeeze=False, height_ratios=[*heights, below])[:, 0]
    under.text(0.012, 1, literal("\n".join(lines)), ha="left", va="top", fontsize=8, color=MUTED, linespacing=1.35, gid=CAPTION)
    return figure, bands


def sentence_figure(text: str, width: float) -> Figure:
    """Returns a figure that says why there is nothing to draw; `width` in inches."""
    figure = new_figure(width, 2.0)
    say(figure, text)
    return figure


def _legend(figure: SubFigure, axes: Sequence[Axes]) -> None:
    """Puts one legend for all axes, each label once, the paper's numbers last."""
    from matplotlib.offsetbox import DrawingArea

    handles: dict[str, Any] = {}
    cells: dict[str, list[str]] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
            drawn = mark_of(handle[0] if isinstance(handle, tuple) else handle)  # of a container, its line
            cells.setdefault(label, []).extend(drawn.cells if drawn else ())
    labels = sorted(handles, key=lambda label: (label == PAPER_LABEL, label == OTHERS))
    if labels:
        legend = figure.legend(
            [handles[label] for label in labels], labels, loc="upper left", bbox_to_anchor=(0, 0.97), alignment="left", borderaxespad=0
        )
        keys = legend.findobj(DrawingArea)
        for label, key, text in zip(labels, keys, legend.get_texts(), strict=True):
            mark_entry([*key.get_children(), text], cells[label])
