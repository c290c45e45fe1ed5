"""Figure: spread of the loss against distance from the weights, on logarithmic axes, with what the gradient predicts as thin lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gapbench.analysis.cells import Panel
from gapbench.analysis.landscape import KINDS, Landscape, Landscapes, when
from gapbench.report.drawing import facets, panel_figure
from gapbench.report.style import Style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

REMARK = (
    "Standard deviation of the loss over random directions, in bins of distance; every run a line. Thin dashed: to first order, what the "
    "norm of the gradient predicts; it is linear in distance for any differentiable loss."
)


def landscape_drawings(found: Landscapes) -> dict[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name. Call it in the house's style."""
    return {"landscape": lambda: _landscape(found)}


def _landscape(found: Landscapes) -> Figure:
    from matplotlib.ticker import NullFormatter

    panels = list(found)
    updates = {panel: sorted({one.fraction for one in own}) for panel, own in found.items()}
    columns = max((len(own) for own in updates.values()), default=1)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        styles = {one.cell.name: one.style for facet in facets(panel) for one in facet.series}
        places = part.subplots(len(KINDS), max(1, len(updates[panel])), squeeze=False, sharex="col", sharey=True)
        for row, kind in zip(places, KINDS, strict=True):
            for axes, fraction in zip(row, updates[panel], strict=True):
                for one in found[panel]:
                    if one.kind == kind and one.fraction == fraction and len(one.bins.number):
                        _line(axes, styles[one.cell.name], one)
                axes.set(xscale="log", yscale="log")
                axes.xaxis.set_minor_formatter(NullFormatter())
                axes.set_title(f"{kind}, {when(fraction)}")
            row[0].set_ylabel("spread of the loss (log scale)")
        for axes in places[-1]:
            axes.set_xlabel("distance (log scale)")
        return list(places.flat)

    def labels(some: Sequence[Panel]) -> list[str]:
        return [cell.name for panel in some for cell in panel.cells]

    return panel_figure(panels, 1.2 + 3.2 * columns, lambda _: 5.6, lambda panel: bool(found[panel]), draw, REMARK, labels)


def _line(axes: Axes, style: Style, one: Landscape) -> None:
    bins = one.bins
    axes.plot(bins.distance, bins.deviation, label=literal(one.cell.name), markersize=4, **style.line)
    ends = np.array([bins.distance.min(), bins.distance.max()])
    axes.plot(ends, one.slope * ends, color=style.color, linewidth=0.8, linestyle=(0, (4, 2)))
