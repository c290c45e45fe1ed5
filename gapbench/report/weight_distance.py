"""Figure: how far the weights have walked, against the logarithm of the update count; one curve per batch size (or arm).

Hoffer et al. 2017, figure 2, drew this on linear axes; on a logarithmic one, logarithmic growth is a straight line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Panel
from gapbench.analysis.curves import Curves
from gapbench.report.drawing import curve_caption, curve_labels, draw_facet, update_axis
from gapbench.report.layout import panel_figure
from gapbench.report.series import facets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLUMNS = 3


def weight_distance_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns the figure of ||w_t - w_0||_2 over all trainable parameters."""
    distances = curves.of("weight_distance")

    def measured(panel: Panel) -> bool:
        return any(run.run_id in distances for cell in panel.cells for run in cell.runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own = facets(panel)
        rows, columns = _shape(len(own))
        places = list(part.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        for axes, facet in zip(places, own, strict=False):
            axes.set_title(facet.title)
            draw_facet(axes, facet, distances)
            update_axis(axes)
            axes.fmt_ydata = lambda value: f"weight distance {value:.3g}"
            axes.label_outer()
        for axes in places[len(own) :]:
            axes.set_visible(False)
        places[0].set_ylim(bottom=0)
        part.supylabel(r"weight distance  $\Vert w_t - w_0 \Vert_2$", fontsize=9)
        return places[: len(own)]

    def height(panel: Panel) -> float:
        rows, _ = _shape(len(facets(panel)))
        return 3.6 if rows == 1 else 0.6 + 2.4 * rows

    caption = curve_caption(panels, "Distances are over all trainable parameters.")
    width = 5.4 if all(len(facets(panel)) == 1 for panel in panels) else 7.6
    return panel_figure(panels, width, height, measured, draw, caption, curve_labels)


def _shape(count: int) -> tuple[int, int]:
    """Rows and columns for a number of axes; four stand better two by two."""
    columns = 2 if count == 4 else min(COLUMNS, max(1, count))
    return -(-max(1, count) // columns), columns
