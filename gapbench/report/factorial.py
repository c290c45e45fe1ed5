"""Figure: the effects of a factorial, one row each: main effects above, interactions of two below, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Panel
from gapbench.analysis.factorial import Effect, Factorial, effect_notes, factorials
from gapbench.catalog import Metric
from gapbench.report.drawing import panel_figure, row_axis
from gapbench.report.scales import gap_label, least_half_width, words
from gapbench.report.style import MUTED, OKABE_ITO, SHADE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WIDTH = 8.2
ROW = 0.34
"""Inches that an effect takes."""


def factorial_figure(panels: Sequence[Panel]) -> Figure:
    """Returns the figure, one axes for each factorial, those of one metric over the same range."""
    found = factorials(panels)

    def draw(part: SubFigure, one: Factorial) -> Sequence[Axes]:
        axes = part.subplots()
        metric = one.panel.metric
        _draw(axes, one.headline, _reach([other for other in found if other.panel.metric == metric], metric))
        axes.set_xlabel(f"effect on {gap_label(metric)}")
        return [axes]

    measures = dict.fromkeys(words(one.panel.metric) for one in found)
    caption = (
        f"Mark and bar: effect on {' or '.join(measures)} with its pointwise 95 % t interval, none from one seed; filled: separated from "
        "zero, all effects of the factorial judged together by Holm's procedure. " + " ".join(effect_notes(found)[:1])
    )
    return panel_figure(
        found,
        WIDTH,
        lambda one: 0.95 + ROW * max(2, len(one.headline)),
        lambda one: bool(one.headline),
        draw,
        caption,
        missing=lambda one: f"No effects: {one.reason}.",
        nothing="The grid is no factorial: it has no two axes of two levels each.",
    )


def _draw(axes: Axes, effects: Sequence[Effect], reach: tuple[float, float]) -> None:
    mains = sum(len(effect.factors) == 1 for effect in effects)
    axes.axhspan(mains - 0.5, len(effects) - 0.5, color=SHADE, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for position, effect in enumerate(effects):
        color = OKABE_ITO[1] if len(effect.factors) == 1 else OKABE_ITO[2]
        half = None if effect.low is None else effect.estimate - effect.low
        axes.errorbar(
            effect.estimate, position, xerr=half, color=color, marker="o" if len(effect.factors) == 1 else "D", markersize=6,
            markerfacecolor=color if effect.separated else "white", linestyle="none", elinewidth=1.3, capsize=2.6, zorder=4,
        )  # fmt: skip
    row_axis(axes, [effect.name for effect in effects])
    axes.set_xlim(*reach)


def _reach(found: Sequence[Factorial], metric: Metric) -> tuple[float, float]:
    """Returns the ends of the axis: all intervals and zero, with some room."""
    effects = [effect for one in found for effect in one.headline]
    ends = [0.0, *(end for effect in effects for end in (effect.estimate, effect.low, effect.high) if end is not None)]
    low, high = min(ends), max(ends)
    room = 0.05 * max(high - low, least_half_width(metric))
    return low - room, high + room
