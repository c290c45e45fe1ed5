"""Figures of the analysis of critical batch sizes: steps against batch size, and the trade of steps for examples."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gapbench.analysis.critical_batch.hyperbola import by_batch_size
from gapbench.analysis.critical_batch.study import ANY_TARGET, CurveStudy
from gapbench.catalog.published import tasks
from gapbench.report.drawing import grid_figure, plain_numbers, sentence_figure
from gapbench.report.style import MUTED, PAPER, SHADE, Style, arm_style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


UPDATES = "updates to the target (log scale)"
SIZE, MARGIN = (4.6, 3.5), 0.4
"""Inches of one axes, and of what stands beside a row of them."""

STEPS = (
    "Dots: runs at the best learning rate of their batch size; open, at the end of what was trained: target not reached. Line: hyperbola, "
    "fitted in log space. Dashed: perfect scaling, twice the batch for half the steps. Shaded: critical batch size, 95 % t interval."
)
PARETO = (
    "Each curve is one target; along it the batch size grows from the upper left to the lower right. Dots: mean of the "
    "seeds; line: fitted hyperbola; cross: the critical batch size, at twice the least steps and twice the least examples; "
    "dotted: those least values."
)
PREDICTED = (
    "Critical batch size predicted from the noise scale of runs at one batch size (mean over progress) against the measured one with its "
    "95 % interval; open: measured more than a factor of 4 from the prediction, so that it does not count. Gray: table 1 of McCandlish "
    "et al. 2018, averages over training. Line: equal; band: within a factor of 10."
)


def critical_batch_drawings(found: Sequence[CurveStudy]) -> Mapping[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name. Call it in the house's style."""
    drawings: dict[str, Callable[[], Figure]] = {
        "steps_vs_batch_size": lambda: _steps(found),
        "steps_vs_examples": lambda: _pareto(found),
    }
    if any(curve.predictions and curve.fit for curve in found):
        drawings["predicted_vs_measured"] = lambda: _predicted(found)
    return drawings


def _steps(found: Sequence[CurveStudy]) -> Figure:
    curves = [curve for curve in found if curve.passages]
    if not curves:
        return sentence_figure("No run has reached a target.", 5.0)
    figure, places = grid_figure(len(curves), STEPS, size=SIZE, margin=MARGIN)
    for position, (axes, curve) in enumerate(zip(places, curves, strict=True)):
        _draw_steps(axes, curve, arm_style(1 + position))
        axes.set_title(_title(curve.title if curve.target == ANY_TARGET else f"{curve.title}: {curve.target}", curve.method), fontsize=9)
    return figure


def _title(*parts: str) -> str:
    """Returns a title in lines that stay above their own axes."""
    return literal("\n".join(line for part in parts for line in textwrap.wrap(part, 54)))


def _draw_steps(axes: Axes, curve: CurveStudy, style: Style) -> None:
    from matplotlib.ticker import NullFormatter

    sizes = np.array([size for size, _ in curve.points])
    steps = np.array([value for _, value in curve.points])
    if len(steps):
        axes.plot(sizes, steps, linestyle="none", marker="o", color=style.color, markersize=4, label="runs")
    if curve.lost:
        axes.plot(
            *zip(*curve.lost, strict=True), linestyle="none", marker="^", color=style.color, markerfacecolor="white", label="not reached"
        )
    if curve.fit is not None:
        at = np.geomspace(sizes.min(), sizes.max(), 100)
        critical = curve.fit.critical_batch
        if sizes.min() < critical.high and critical.low < sizes.max():
            axes.axvspan(max(critical.low, sizes.min()), min(critical.high, sizes.max()), color=SHADE, zorder=0)
        axes.plot(at, curve.fit.steps(at), color=style.color, label="fit")
        guide = curve.fit.steps(at[:1])[0] * at[0] / at
        axes.plot(at, guide, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label="perfect scaling")
        axes.set_ylim(bottom=0.7 * min(steps.min(), curve.fit.smallest_steps.value))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelrotation=30)
    plain_numbers(axes.yaxis, axes.get_ylim())
    axes.set(xlabel="batch size (log scale)", ylabel=UPDATES)
    axes.legend(loc="upper right")


def _pareto(found: Sequence[CurveStudy]) -> Figure:
    curves: dict[tuple[str, str], list[CurveStudy]] = {}
    for curve in found:
        if curve.fit is not None:
            curves.setdefault((curve.title, curve.method), []).append(curve)
    if not curves:
        return sentence_figure("No hyperbola could be fitted.", 5.0)
    figure, places = grid_figure(len(curves), PARETO, size=SIZE, margin=MARGIN)
    for axes, (key, own) in zip(places, curves.items(), strict=True):
        axes.set_title(_title(*key), fontsize=9)
        _draw_pareto(axes, own)
    return figure


def _draw_pareto(axes: Axes, curves: Sequence[CurveStudy]) -> None:
    for position, curve in enumerate(curves):
        fit, style = curve.fit, arm_style(1 + position)
        assert fit is not None
        reached = [one for one in curve.chosen if one.steps]
        sizes = np.array([one.batch_size for one in reached])
        steps = np.array([float(np.exp(np.log(one.steps).mean())) for one in reached])
        at = np.geomspace(sizes.min(), sizes.max(), 100)
        axes.plot(sizes * steps, steps, linestyle="none", marker=style.marker, markersize=4, color=style.color)
        axes.plot(at * fit.steps(at), fit.steps(at), color=style.color, linestyle=style.dashes, label=literal(curve.target))
        axes.plot(2 * fit.smallest_examples, 2 * fit.smallest_steps.value, marker="x", markersize=7, color=style.color)
        axes.axhline(fit.smallest_steps.value, color=style.color, linewidth=0.7, linestyle=(0, (1, 2)))
        axes.axvline(fit.smallest_examples, color=style.color, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.set(xscale="log", yscale="log", xlabel="examples to the target (log scale)", ylabel=UPDATES)
    plain_numbers(axes.xaxis, axes.get_xlim())
    plain_numbers(axes.yaxis, axes.get_ylim())
    axes.legend(loc="upper right")


def _predicted(found: Sequence[CurveStudy]) -> Figure:
    figure, (axes,) = grid_figure(1, PREDICTED, size=(6.4, 4.6))
    xs, ys = _draw_tasks(axes)
    curves = [curve for curve in found if curve.fit is not None and curve.predictions]
    single = len({curve.title for curve in curves}) == 1
    for position, curve in enumerate(curves):
        style = arm_style(1 + position)
        assert curve.fit is not None
        measured = curve.fit.critical_batch
        error = [[measured.value - measured.low], [measured.high - measured.value]]
        for one in by_batch_size(curve.predictions):
            axes.errorbar(
                one.weighted, measured.value, yerr=error, marker=style.marker, color=style.color, markersize=5, elinewidth=0.8,
                markerfacecolor=style.color if one.counts else "white", linestyle="none",
            )  # fmt: skip
            xs.append(one.weighted)
        ys += [measured.low, measured.high]
        label = curve.target if single else f"{curve.title}: {curve.target}"
        axes.plot([], [], marker=style.marker, color=style.color, markersize=5, linestyle="none", label=literal(label))
    axes.set(xscale="log", yscale="log")
    low, high = 0.4 * min(xs), 20.0 * max(xs)  # room for the names beside the dots
    at = np.geomspace(low, high, 50)
    axes.plot(at, at, color=MUTED, linewidth=0.9)
    axes.fill_between(at, at / 10, at * 10, color=SHADE, zorder=0)
    axes.set_xlim(low, high)
    axes.set_ylim(0.3 * min(ys), 10.0 * max(ys))
    axes.set_xlabel("predicted from the noise scale, examples (log scale)")
    axes.set_ylabel("measured from steps to the target, examples (log scale)")
    axes.legend(loc="upper left")
    return figure


def _draw_tasks(axes: Axes) -> tuple[list[float], list[float]]:
    """Draws the tasks of McCandlish et al. 2018 and returns where they lie: what is predicted, and what was measured."""
    places = [(task.noise_scale[1], task.critical_batch[1]) for task in tasks()]
    for task, place in zip(tasks(), places, strict=True):
        axes.plot(*place, linestyle="none", marker="o", color=PAPER, markersize=5)
        axes.annotate(task.task, place, xytext=(5, -3), textcoords="offset points", fontsize=7, color=PAPER)
    return [x for x, _ in places], [y for _, y in places]
