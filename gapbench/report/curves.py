"""Figures over the update count: weight distance, and train loss beside test accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Panel
from gapbench.analysis.curves import Curves
from gapbench.report.accuracy import drawable_curves, stretch_accuracy
from gapbench.report.drawing import curve_caption, curve_labels, draw_facet, facets, panel_figure, update_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


# Figure: how far the weights have walked, against the logarithm of the update count; one curve per batch size (or arm).
#
# Hoffer et al. 2017, figure 2, drew this on linear axes; on a logarithmic one, logarithmic growth is a straight line.

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


# Figure: train loss and test accuracy (or, of models that do not classify, test loss) against the update count, per arm or batch size.


def training_curves_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns the figure; recalibrated statistics where they were recorded, since running ones lag at large batch sizes."""
    recalibrated = bool(curves.of("recalibrated_train_loss"))
    prefix = "recalibrated_" if recalibrated else ""
    losses, accuracies = curves.of(f"{prefix}train_loss"), curves.of(f"{prefix}test_accuracy")
    bounded, test_losses = drawable_curves(accuracies), curves.of(f"{prefix}test_loss")

    def measured(panel: Panel) -> bool:
        second = accuracies if panel.headline == "test_accuracy" else test_losses
        return any(run.run_id in losses and run.run_id in second for cell in panel.cells for run in cell.runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own, classifies = facets(panel), panel.headline == "test_accuracy"
        places = part.subplots(len(own), 2, squeeze=False, sharex=True, sharey="col")
        for row, facet in enumerate(own):
            left, right = places[row]
            draw_facet(left, facet, losses, logarithmic=classifies)
            draw_facet(right, facet, bounded if classifies else test_losses)
            left.set_ylabel("train loss (nats)")
            right.set_ylabel("test accuracy (%)" if classifies else "test loss (nats)")
            left.fmt_ydata = lambda value: f"train loss {value:.3g}"
            right.fmt_ydata = lambda value: f"test loss {value:.3g}"  # of accuracies replaced below
            for axes in (left, right):
                axes.set_title(facet.title)
                update_axis(axes)
                if row < len(own) - 1:
                    axes.set_xlabel("")
        if classifies:  # else a loss is a density's, which may be negative, and no zero is far from it
            places[0, 0].set_yscale("log")
            stretch_accuracy(list(places[:, 1]))
        return list(places.flat)

    def height(panel: Panel) -> float:
        rows = len(facets(panel))
        return 3.3 if rows == 1 else 0.6 + 2.0 * rows

    statistics = " Batch norm statistics are recalibrated at each evaluation." if recalibrated else ""
    axis = "The accuracy axis is logarithmic in the error." if any(panel.headline == "test_accuracy" for panel in panels) else ""
    caption = curve_caption(panels, f"{axis}{statistics}".strip())
    return panel_figure(panels, 7.6, height, measured, draw, caption, curve_labels)
