"""Drawing of curves over updates, shared by the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.curves import Curve, at_equal_examples, band
from gapbench.report.marks import mark
from gapbench.report.series import Facet, Series, facets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_THIN: Any = (0, (1, 1.5))


def curve_labels(panels: Sequence[Panel]) -> list[str]:
    """Returns the labels that `draw_facet` may put into a legend."""
    own = [facet for panel in panels for facet in facets(panel)]
    return [series.label for facet in own for series in facet.series] + [_reference_label(facet) for facet in own if facet.reference]


def draw_facet(axes: Axes, facet: Facet, curves: Mapping[str, Curve], *, logarithmic: bool = False) -> None:
    """Draws every series of a facet, the reference in gray where it is none of them."""
    if facet.reference is not None:
        found = band(_values(facet.reference, curves, logarithmic), logarithmic=logarithmic)
        if found is not None:
            (line,) = axes.plot(found.updates, found.mean, color="#9A9A9A", linewidth=2.6, alpha=0.55, label=_reference_label(facet))
            mark(line, facet.reference, low=found.low, high=found.high)
    for position, series in enumerate(facet.series):
        _draw_series(axes, series, curves, position, logarithmic)


def _reference_label(facet: Facet) -> str:
    return f"reference: {facet.reference.name}" if facet.reference else ""


def update_axis(axes: Axes) -> None:
    """Makes the x axis the update count, logarithmic."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_xlabel("updates (log scale)")
    axes.fmt_xdata = lambda value: f"update {value:.0f}"
    axes.xaxis.set_major_locator(LogLocator(base=10))
    axes.xaxis.set_minor_formatter(NullFormatter())


def plain_numbers(axis: Axis, limits: tuple[float, float]) -> None:
    """Writes the numbers of a logarithmic axis as such, 200 and not 2 x 10^2, with some between the powers of ten where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(limits)

    def text(value: float, _: int | None = None) -> str:
        if value >= 1e6:
            return f"{value / 1e6:g} million"
        return f"{value:,.0f}" if value >= 1 else f"{value:g}"

    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


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
    parts += ["Thin dotted lines: runs that did not end ok, up to where they ended."] if any(not cell.complete for cell in cells) else []
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
        (line,) = axes.plot(
            found.updates, found.mean, label=series.label, color=style.color, linestyle=style.dashes, marker=style.marker,
            markerfacecolor=style.marker_face, markersize=4, markevery=every,
        )  # fmt: skip
        mark(line, series.cell, low=found.low, high=found.high)
    elif others:
        (line,) = axes.plot([], [], label=f"{series.label}, none ok", color=style.color, linewidth=0.9, linestyle=_THIN)
        mark(line, series.cell, texts=())
