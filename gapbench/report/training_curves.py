"""Figure: train loss and test accuracy (or, of models that do not classify, test loss) against the update count, per arm or batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Panel
from gapbench.analysis.curves import Curves
from gapbench.report.accuracy_axis import drawable_curves, stretch_accuracy
from gapbench.report.drawing import curve_caption, curve_labels, draw_facet, update_axis
from gapbench.report.layout import panel_figure
from gapbench.report.series import facets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


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
