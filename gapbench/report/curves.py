"""Figures of training as it proceeds: weight distance, losses and accuracies over updates, and test accuracy against train loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.curves import Curve, Curves, LossPath, loss_path
from gapbench.catalog import Metric
from gapbench.report.drawing import (
    BEHIND,
    Series,
    counts_text,
    curve_caption,
    curve_labels,
    draw_facet,
    facet_axes,
    facet_shape,
    facets,
    log_ticks,
    panel_figure,
    reference_label,
    update_axis,
)
from gapbench.report.marks import mark
from gapbench.report.scales import axis_label, drawable, drawable_curves, is_share, stretch_accuracy, value_text, words
from gapbench.report.style import Style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LEVELS = 120
"""Points of a line of accuracy against loss."""
RECALIBRATED = "Batch norm statistics are recalibrated at each evaluation."


def weight_distance_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns the figure of ||w_t - w_0||_2 over all trainable parameters, one curve per batch size or arm.

    Hoffer et al. 2017, figure 2, drew it on linear axes; over the logarithm of the update count, logarithmic growth is a straight line.
    """
    distances = curves.of("weight_distance")

    def measured(panel: Panel) -> bool:
        return any(run.run_id in distances for cell in panel.cells for run in cell.runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own = facets(panel)
        places = facet_axes(part, own)
        for axes, facet in zip(places, own, strict=True):
            draw_facet(axes, facet, distances)
            update_axis(axes)
            axes.fmt_ydata = lambda value: f"weight distance {value:.3g}"
            axes.label_outer()
        places[0].set_ylim(bottom=0)
        ok = [distances[run.run_id].values.max() for cell in panel.cells for run in cell.ok_runs if run.run_id in distances]
        if ok:  # a run that diverged goes as far as numbers go
            places[0].set_ylim(top=1.05 * max(ok))
        part.supylabel(r"weight distance  $\Vert w_t - w_0 \Vert_2$", fontsize=9)
        return places

    def height(panel: Panel) -> float:
        rows, _ = facet_shape(len(facets(panel)))
        return 3.6 if rows == 1 else 0.6 + 2.4 * rows

    caption = curve_caption(panels, "Distances are over all trainable parameters.")
    width = 5.4 if all(len(facets(panel)) == 1 for panel in panels) else 7.6
    return panel_figure(panels, width, height, measured, draw, caption, curve_labels)


def training_curves_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns train loss and, beside it, the test metric of a panel over updates, per arm or batch size.

    Batch norm statistics are recalibrated where that was recorded, since running ones lag at large batch sizes.
    """
    prefix = _prefix(curves)
    losses = curves.of(f"{prefix}train_loss")

    def tested(metric: Metric) -> Mapping[str, Curve]:
        found = curves.of(f"{prefix}{metric.column('test')}")
        return drawable_curves(found) if is_share(metric) else found

    def measured(panel: Panel) -> bool:
        both = losses.keys() & tested(panel.metric).keys()
        return any(run.run_id in both for cell in panel.cells for run in cell.runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own, metric = facets(panel), panel.metric
        second = tested(metric)
        places = part.subplots(len(own), 2, squeeze=False, sharex=True, sharey="col")
        for row, facet in enumerate(own):
            left, right = places[row]
            draw_facet(left, facet, losses, logarithmic=is_share(metric))
            draw_facet(right, facet, second)
            left.set_ylabel("train loss (nats)")
            right.set_ylabel(axis_label(metric))
            left.fmt_ydata = lambda value: f"train loss {value:.3g}"
            right.fmt_ydata = lambda value: f"{words(metric)} {value:.3g}"  # of accuracies replaced below
            for axes in (left, right):
                axes.set_title(literal(facet.title))
                update_axis(axes)
                if row < len(own) - 1:
                    axes.set_xlabel("")
        if is_share(metric):  # else a loss is a density's, which may be negative, and no zero is far from it
            places[0, 0].set_yscale("log")
            stretch_accuracy(list(places[:, 1]))
        return list(places.flat)

    def height(panel: Panel) -> float:
        rows = len(facets(panel))
        return 3.3 if rows == 1 else 0.6 + 2.0 * rows

    axis = "The accuracy axis is logarithmic in the error." if any(is_share(panel.metric) for panel in panels) else ""
    caption = curve_caption(panels, " ".join(filter(None, [axis, RECALIBRATED if prefix else ""])))
    return panel_figure(panels, 7.6, height, measured, draw, caption, curve_labels)


def loss_accuracy_figure(panels: Sequence[Panel], curves: Curves) -> Figure:
    """Returns test accuracy against train loss: what a network gets right when it has fitted the training set so far.

    At a constant rate the distance of two lines at one train loss is their matched-loss gap. Where the rate drops, lines at one loss may
    be in different phases of their schedules, and their distance then says which cell had annealed. Batch norm statistics are recalibrated
    where that was recorded, as for the matched-loss gap.
    """
    prefix = _prefix(curves)
    losses, accuracies = curves.of(f"{prefix}train_loss"), curves.of(f"{prefix}test_accuracy")

    def measured(panel: Panel) -> bool:
        return any(run.run_id in losses and run.run_id in accuracies for cell in panel.cells for run in cell.ok_runs)

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        own = facets(panel)
        places = facet_axes(part, own)
        for axes, facet in zip(places, own, strict=True):
            if facet.reference is not None:
                gray = Series(facet.reference, reference_label(facet), Style(BEHIND, "solid", "o"))
                _draw(axes, gray, losses, accuracies, 0)
            for position, series in enumerate(facet.series):
                _draw(axes, series, losses, accuracies, position)
        _loss_axis(places)
        if any(len(axes.get_lines()) for axes in places):
            stretch_accuracy(places)
        part.supxlabel("train loss (nats, log scale), falling to the right as training proceeds", fontsize=9)
        part.supylabel(axis_label(catalog.metrics()["accuracy"]), fontsize=9)
        return places

    def height(panel: Panel) -> float:
        rows, columns = facet_shape(len(facets(panel)))
        return 4.6 if columns == 1 else 0.8 + 2.5 * rows

    caption = (
        "Line: mean test accuracy of the seeds where the smoothed train loss of each first reaches that value, as far as all of them "
        "reach. Where the rate drops, two lines at one loss may be in different phases: then their distance says which had annealed, not "
        "which generalizes. Faint marks: last evaluation of each seed. "
        f"{counts_text(panels)} The accuracy axis is logarithmic in the error. "
    ) + (RECALIBRATED if prefix else "Batch norm statistics are running ones.")
    return panel_figure(panels, 7.4, height, measured, draw, caption, curve_labels)


def mean_path(cell: Cell, losses: Mapping[str, Curve], accuracies: Mapping[str, Curve]) -> LossPath | None:
    """Returns the mean path of a cell's ok runs over the train losses that all of them pass; None where there is none.

    Every value of a sample counts once, as in the matched-loss gap: runs on one split are averaged first.
    """
    recorded = [run.run_id for run in cell.ok_runs if run.run_id in losses and run.run_id in accuracies]
    paths = {run: path for run in recorded if (path := loss_path(losses[run], accuracies[run]))}
    if not paths or len(paths) < len(cell.ok_runs):
        return None  # a mean over some of the seeds would be another quantity
    start, end = min(path.log_loss[0] for path in paths.values()), max(path.log_loss.min() for path in paths.values())
    if start <= end:
        return None
    levels = np.linspace(start, end, LEVELS)
    reached = np.array([[path.accuracy_at(level) for level in levels] for path in paths.values()], dtype=np.float64)  # nan: never
    if np.isnan(reached).any():
        return None
    means = [np.mean([*cell.sample(dict(zip(paths, at_level, strict=True))).values()]) for at_level in reached.T]
    return LossPath(levels, np.array(means))


def _draw(axes: Axes, series: Series, losses: Mapping[str, Curve], accuracies: Mapping[str, Curve], position: int) -> None:
    """Draws the line of a cell and where each of its seeds ended."""
    style = series.style
    path = mean_path(series.cell, losses, accuracies)
    ends = [run.run_id for run in series.cell.ok_runs if run.run_id in losses and run.run_id in accuracies]
    if path is not None:
        every = 2 + 3 * (position % 6), 24
        (line,) = axes.plot(
            np.exp(path.log_loss), drawable(path.accuracy), label=literal(series.label), markersize=4, markevery=every, **style.line
        )
        mark(line, series.cell)
    if ends:
        (dots,) = axes.plot(
            [losses[run].values[-1] for run in ends], [drawable(accuracies[run].values[-1]) for run in ends], linestyle="none",
            marker=style.marker, color=style.color, markersize=4.5, alpha=0.6, markeredgewidth=0,
            label="" if path is not None else literal(series.label),
        )  # fmt: skip
        mark(dots, series.cell, texts=[_end(series.cell.name, losses[run].values[-1], accuracies[run].values[-1]) for run in ends])


def _end(name: str, train_loss: float, accuracy: float) -> str:
    metric = catalog.metrics()["accuracy"]
    said = f"{words(metric)} {value_text(metric, metric.shown(accuracy))}"
    return f"{name}, a seed's last evaluation: train loss {train_loss:.3g}, {said}"


def _loss_axis(places: Sequence[Axes]) -> None:
    losses = np.concatenate([np.asarray(line.get_xdata(), dtype=np.float64) for axes in places for line in axes.get_lines()])
    narrow = len(losses) > 0 and losses.max() < 200 * losses.min()
    for axes in places:
        axes.set_xscale("log")
        axes.fmt_xdata = lambda value: f"train loss {value:.3g}"
        log_ticks(axes.xaxis, between=narrow and len(places) == 1)
        if narrow:
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.label_outer()
    places[0].invert_xaxis()


def _prefix(curves: Curves) -> str:
    """Returns what the names of metrics begin with: evaluations with recalibrated statistics are preferred where they were recorded."""
    return "recalibrated_" if curves.of("recalibrated_train_loss") else ""
