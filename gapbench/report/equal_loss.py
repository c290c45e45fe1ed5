"""Figure: test accuracy against final train loss, a point for each length of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gapbench import catalog
from gapbench.analysis.cells import Panel
from gapbench.analysis.equal_loss import families, final_loss
from gapbench.report.drawing import counts_text, log_ticks, panel_figure
from gapbench.report.scales import axis_label, drawable, stretch_accuracy
from gapbench.report.style import arm_style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def equal_loss_figure(panels: Sequence[Panel]) -> Figure:
    """Returns the figure, one axes for each panel that has arms of several lengths."""
    accuracy = catalog.metrics()["accuracy"]

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        axes = part.subplots()
        for position, family in enumerate(families(panel)):
            points = [(final_loss(cell), cell.estimate("test_accuracy")) for cell in family.cells if cell.ok_runs]
            known = [(loss, estimate) for loss, estimate in points if estimate is not None]
            style = arm_style(position)
            axes.errorbar(
                [loss for loss, _ in known],
                drawable(np.array([estimate.mean for _, estimate in known])),
                yerr=[estimate.half_width or 0.0 for _, estimate in known],
                **style.line, markersize=5, linewidth=1.2, elinewidth=1.0, capsize=2.4, label=literal(family.name),
            )  # fmt: skip
        axes.set_xscale("log")
        axes.invert_xaxis()
        log_ticks(axes.xaxis, between=True)
        stretch_accuracy([axes])
        part.supxlabel("final train loss (nats, log scale), longer training to the right", fontsize=9)
        part.supylabel(axis_label(accuracy), fontsize=9)
        return [axes]

    def labels(own: Sequence[Panel]) -> list[str]:
        return [family.name for panel in own for family in families(panel)]

    caption = (
        "Each mark is one length of an arm, annealed to its end: mean test accuracy with its pointwise 95 % t interval, at the mean final "
        f"train loss (of its logarithm). At equal loss the distance of two lines is a gap of generalization. {counts_text(panels)} "
        "The accuracy axis is logarithmic in the error."
    )
    return panel_figure(panels, 6.6, lambda _: 4.4, lambda panel: bool(families(panel)), draw, caption, labels)
