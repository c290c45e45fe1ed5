"""Figures of training as it proceeds: weight distance, losses and accuracies over updates, and test accuracy against train loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.curves import Curve, Curves, LossPath, loss_path
from gapbench.report.accuracy import drawable, drawable_curves, stretch_accuracy
from gapbench.report.drawing import Series, counts_text, curve_caption, curve_labels, draw_facet, facets, panel_figure, update_axis
from gapbench.report.marks import mark
from gapbench.report.style import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


# Figures over the update count: weight distance, and train loss beside test accuracy.

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


# Figure: test accuracy against train loss as training proceeds: what a network gets right when it has fitted the training set so far.
#
# At one train loss, the distance of two lines is their matched-loss gap: what is left of a batch gap when optimization is taken out.

LEVELS = 120
"""Points of a line."""


@dataclass(frozen=True)
class MeanPath:
    """Mean test accuracy of a cell's runs where each first reaches a train loss."""

    train_loss: npt.NDArray[np.float64]
    """Nats, decreasing."""
    test_accuracy: npt.NDArray[np.float64]
    """Fractions."""


def loss_accuracy_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns the figure; recalibrated statistics where they were recorded, as for the matched-loss gap."""
    recalibrated = bool(curves.of("recalibrated_train_loss"))
    prefix = "recalibrated_" if recalibrated else ""
    losses, accuracies = curves.of(f"{prefix}train_loss"), curves.of(f"{prefix}test_accuracy")

    def measured(panel: Panel) -> bool:
        return any(run.run_id in losses and run.run_id in accuracies for cell in panel.cells for run in cell.ok_runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own = facets(panel)
        rows, columns = _loss_accuracy_shape(len(own))
        places = list(part.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        for axes, facet in zip(places, own, strict=False):
            axes.set_title(facet.title)
            if facet.reference is not None:
                gray = Series(facet.reference, f"reference: {facet.reference.name}", Style("#9A9A9A", "solid", "o"))
                _draw(axes, gray, losses, accuracies, 0)
            for position, series in enumerate(facet.series):
                _draw(axes, series, losses, accuracies, position)
        for axes in places[len(own) :]:
            axes.set_visible(False)
        shown = places[: len(own)]
        _loss_axis(shown)
        if any(len(axes.get_lines()) for axes in shown):
            stretch_accuracy(shown)
        part.supxlabel("train loss (nats, log scale), falling to the right as training proceeds", fontsize=9)
        part.supylabel("test accuracy (%)", fontsize=9)
        return shown

    caption = (
        "Line: mean test accuracy of the seeds where the smoothed train loss of each first reaches that value, as far as all of them "
        "reach, so that at one train loss the distance of two lines is their matched-loss gap. Faint marks: last evaluation of each seed. "
        f"{counts_text(panels)} The accuracy axis is logarithmic in the error."
    )
    caption += " Batch norm statistics are recalibrated at each evaluation." if recalibrated else " Batch norm statistics are running ones."
    return panel_figure(panels, 7.4, _height, measured, draw, caption, _labels)


def mean_path(cell: Cell, losses: Mapping[str, Curve], accuracies: Mapping[str, Curve]) -> MeanPath | None:
    """Returns the mean path of a cell's ok runs over the train losses that all of them pass; None where there is none.

    Every value of a sample counts once, as in the matched-loss gap: runs on one split are averaged first.
    """
    paths: dict[str, LossPath] = {}
    for run in cell.ok_runs:
        path = loss_path(losses[run.run_id], accuracies[run.run_id]) if run.run_id in losses and run.run_id in accuracies else None
        if path is None:
            return None  # a mean over some of the seeds would be another quantity
        paths[run.run_id] = path
    if not paths:
        return None
    start, end = min(float(path.log_loss[0]) for path in paths.values()), max(float(path.log_loss.min()) for path in paths.values())
    if start <= end:
        return None
    levels = np.linspace(start, end, LEVELS)
    means = []
    for level in levels:
        reached = {run_id: path.accuracy_at(float(level)) for run_id, path in paths.items()}
        if any(accuracy is None for accuracy in reached.values()):
            return None
        sample = cell.sample({run_id: accuracy for run_id, accuracy in reached.items() if accuracy is not None})
        means.append(float(np.mean([*sample.values()])))
    return MeanPath(np.exp(levels), np.array(means))


def _draw(axes: Axes, series: Series, losses: Mapping[str, Curve], accuracies: Mapping[str, Curve], position: int) -> None:
    """Draws the line of a cell and where each of its seeds ended."""
    style = series.style
    path = mean_path(series.cell, losses, accuracies)
    ends = [run.run_id for run in series.cell.ok_runs if run.run_id in losses and run.run_id in accuracies]
    if path is not None:
        (line,) = axes.plot(
            path.train_loss, drawable(path.test_accuracy), color=style.color, linestyle=style.dashes, label=series.label,
            marker=style.marker, markerfacecolor=style.marker_face, markersize=4, markevery=(2 + 3 * (position % 6), 24),
        )  # fmt: skip
        mark(line, series.cell)
    if ends:
        (dots,) = axes.plot(
            [losses[run].values[-1] for run in ends], [drawable(accuracies[run].values[-1]) for run in ends], linestyle="none",
            marker=style.marker, color=style.color, markersize=4.5, alpha=0.6, markeredgewidth=0,
            label="" if path is not None else series.label,
        )  # fmt: skip
        mark(dots, series.cell, texts=[_end(series.cell.name, losses[run].values[-1], accuracies[run].values[-1]) for run in ends])


def _end(name: str, train_loss: float, accuracy: float) -> str:
    return f"{name}, a seed's last evaluation: train loss {train_loss:.3g}, test accuracy {100 * accuracy:.2f} %"


def _loss_axis(places: Sequence[Axes]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    losses = np.concatenate([np.asarray(line.get_xdata(), dtype=np.float64) for axes in places for line in axes.get_lines()])
    narrow = len(losses) > 0 and losses.max() < 200 * losses.min()
    for axes in places:
        axes.set_xscale("log")
        axes.fmt_xdata = lambda value: f"train loss {value:.3g}"
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if narrow and len(places) == 1 else (1.0,)))
        if narrow:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.label_outer()
    places[0].invert_xaxis()


def _labels(panels: Sequence[Panel]) -> list[str]:
    own = [facet for panel in panels for facet in facets(panel)]
    return [series.label for facet in own for series in facet.series] + [f"reference: {one.reference.name}" for one in own if one.reference]


def _loss_accuracy_shape(count: int) -> tuple[int, int]:
    columns = 1 if count <= 1 else 2 if count == 4 else min(3, count)
    return -(-max(1, count) // columns), columns


def _height(panel: Panel) -> float:
    rows, columns = _loss_accuracy_shape(len(facets(panel)))
    return 4.6 if columns == 1 else 0.8 + 2.5 * rows
