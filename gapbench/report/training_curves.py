"""Figure: train loss and test accuracy against the update count, per arm (or batch size)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gapbench.analysis.cells import Panel
from gapbench.analysis.curves import Curve, Curves
from gapbench.report.drawing import curve_caption, curve_labels, draw_facet, panel_figure, update_axis
from gapbench.report.series import facets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

ERROR_FLOOR = 5e-4
"""Accuracies above 1 - this are drawn as that: an error of zero has no place on a logarithmic axis."""

_TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_FINE_TICKS = (0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998)


def training_curves_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns the figure; recalibrated statistics where they were recorded, since running ones lag at large batch sizes."""
    recalibrated = bool(curves.of("recalibrated_train_loss"))
    prefix = "recalibrated_" if recalibrated else ""
    losses, accuracies = curves.of(f"{prefix}train_loss"), curves.of(f"{prefix}test_accuracy")
    bounded = {run: Curve(curve.updates, np.minimum(curve.values, 1 - ERROR_FLOOR)) for run, curve in accuracies.items()}

    def measured(panel: Panel) -> bool:
        return any(run.run_id in losses and run.run_id in accuracies for cell in panel.cells for run in cell.runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own = facets(panel)
        places = part.subplots(len(own), 2, squeeze=False, sharex=True, sharey="col")
        for row, facet in enumerate(own):
            left, right = places[row]
            draw_facet(left, facet, losses, logarithmic=True)
            draw_facet(right, facet, bounded)
            left.set_ylabel("train loss (nats)")
            right.set_ylabel("test accuracy (%)")
            left.fmt_ydata = lambda value: f"train loss {value:.3g}"
            right.fmt_ydata = _accuracy_text
            for axes in (left, right):
                axes.set_title(facet.title)
                update_axis(axes)
                if row < len(own) - 1:
                    axes.set_xlabel("")
        places[0, 0].set_yscale("log")
        _accuracy_axes(list(places[:, 1]))
        return list(places.flat)

    def height(panel: Panel) -> float:
        rows = len(facets(panel))
        return 3.3 if rows == 1 else 0.6 + 2.0 * rows

    statistics = " Batch norm statistics are recalibrated at each evaluation." if recalibrated else ""
    caption = curve_caption(panels, f"The accuracy axis is logarithmic in the error.{statistics}")
    return panel_figure(panels, 7.6, height, measured, draw, caption, curve_labels(panels))


def _accuracy_text(accuracy: float) -> str:
    beyond = " or more" if accuracy >= 1 - ERROR_FLOOR else ""
    return f"test accuracy {100 * accuracy:.2f} %{beyond}"


def _accuracy_axes(places: Sequence[Axes]) -> None:
    """Spreads the accuracies near 100 %, on axes that share their scale."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for axes in places for line in axes.get_lines()])
    low, high = _stretch(np.array([drawn.min(), drawn.max()]))  # of lines alone: a band may reach far beyond
    pad = max(0.03, 0.08 * (high - low))
    bounds = max(0.0, low - pad), high + pad
    ticks, fine = (_within(bounds, candidates) for candidates in (_TICKS, _FINE_TICKS))
    ticks = ticks if len(ticks) > 3 else fine
    for axes in places:
        axes.set_yscale("function", functions=(_stretch, _squeeze))
        axes.set_yticks(ticks, [f"{100 * tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.tick_params(axis="x", which="minor", bottom=True)
        axes.set_ylim(*_squeeze(np.array(bounds)))


def _within(bounds: tuple[float, float], candidates: Sequence[float]) -> list[float]:
    """Returns the ticks that fall on the axis and leave room for one another's labels, the highest accuracies first."""
    room, kept = (bounds[1] - bounds[0]) / 9, list[float]()
    for tick in reversed(candidates):
        place = float(_stretch(tick))
        if bounds[0] <= place <= bounds[1] and all(abs(place - _stretch(other)) >= room for other in kept):
            kept.append(tick)
    return kept[::-1]


def _stretch(accuracy: Any) -> Any:
    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=np.float64), ERROR_FLOOR / 4))


def _squeeze(stretched: Any) -> Any:
    return 1 - 10.0 ** -np.asarray(stretched, dtype=np.float64)
