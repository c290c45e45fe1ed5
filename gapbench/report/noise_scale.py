"""Figures of noise scales: against examples and against train loss, with intervals and the batch size of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Panel
from gapbench.analysis.noise_scale import RunNoise, Scale, below_zero, loss_at
from gapbench.report.drawing import panel_figure, plain_numbers
from gapbench.report.style import Style, batch_style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


CAPTION = (
    "Noise scale tr(Sigma) / |G|^2 of the training set, in examples; bars: 95 % intervals by jackknife, by Fieller near |G|^2 = 0; arrow "
    "up: no upper end, at least the lower one. Filled: weights standing still; open: along training. Dotted: batch size of the run."
)
CAPTION_CROWDED = (
    "Noise scale tr(Sigma) / |G|^2 of the training set, in examples, one dot a run and measurement; 95 % intervals stand in noise.csv. "
    "Arrow up: no upper end, at least the lower one. Filled: weights standing still; open: along training. Dotted: batch sizes of the runs."
)
CROWDED = 8
"""Runs of a panel whose intervals can still be told apart."""


def noise_scale_drawings(found: Sequence[RunNoise]) -> Mapping[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name. Call it in the house's style."""
    return {"noise_scale": lambda: _draw(found)}


def _draw(found: Sequence[RunNoise]) -> Figure:
    runs: dict[Panel, list[RunNoise]] = {}
    for run in found:
        runs.setdefault(run.panel, []).append(run)
    crowded = max(map(len, runs.values()), default=0) > CROWDED

    def draw(part: SubFigure, panel: Panel) -> Sequence[Axes]:
        left, right = part.subplots(1, 2, sharey=True)
        sizes = _sizes(runs[panel])
        for run in runs[panel]:
            _draw_run(left, right, run, batch_style(sizes.index(run.cell.batch_size), len(sizes)), crowded)
        for position, label in enumerate(_labels(runs[panel])):
            style = batch_style(position, len(sizes))
            right.plot([], [], color=style.color, marker=style.marker, markersize=4, linestyle="none", label=literal(label))
        linear = any(below_zero(run.loss) for run in runs[panel])
        left.set(xlabel="examples seen (log scale)", ylabel="noise scale, examples (log scale)", yscale="log")
        right.set(xlabel=f"train loss ({'' if linear else 'log scale, '}falling to the right)", yscale="log")
        for axes in (left,) if linear else (left, right):
            axes.set_xscale("log")
            plain_numbers(axes.xaxis, axes.get_xlim())
        plain_numbers(left.yaxis, left.get_ylim())
        right.invert_xaxis()
        return [left, right]

    return panel_figure(
        list(runs),
        8.8,
        lambda _: 3.6,
        lambda _: True,
        draw,
        CAPTION_CROWDED if crowded else CAPTION,
        lambda panels: [label for panel in panels for label in _labels(runs[panel])],
        nothing="No run has measured its noise scale.",
    )


def _sizes(runs: Sequence[RunNoise]) -> list[int]:
    return sorted({run.cell.batch_size for run in runs})


def _labels(runs: Sequence[RunNoise]) -> list[str]:
    """Returns an entry of the legend for each batch size: its cell, or how many it has."""
    cells = [sorted({run.cell.name for run in runs if run.cell.batch_size == size}) for size in _sizes(runs)]
    return [own[0] if len(own) == 1 else f"batch size {size:,} ({len(own)} cells)" for size, own in zip(_sizes(runs), cells, strict=True)]


def _draw_run(left: Axes, right: Axes, run: RunNoise, style: Style, crowded: bool) -> None:
    """Draws one run: with its intervals and a line, or as bare dots where there are many."""
    for series, filled in ((run.probed, True), (run.streamed, False)):
        points = [noise for noise in series if noise.update > 0]
        losses = [(loss_at(run.loss, noise.update), noise.dataset) for noise in points]
        of_examples = [(noise.update * run.cell.batch_size, noise.dataset) for noise in points]
        _draw_scales(left, of_examples, style, filled, crowded)
        _draw_scales(right, [(loss, scale) for loss, scale in losses if loss is not None], style, filled, crowded)
    for axes in (left, right):
        axes.axhline(run.cell.batch_size, color=style.color, linewidth=0.7, linestyle=(0, (1, 2)))


def _draw_scales(axes: Axes, drawn: Sequence[tuple[float, Scale]], style: Style, filled: bool, crowded: bool) -> None:
    known = [(place, scale) for place, scale in drawn if scale.known is not None and (scale.low is None or scale.high is not None)]
    if known:
        down = [0.0 if scale.low is None else scale.value - scale.low for _, scale in known]
        up = [0.0 if scale.high is None else scale.high - scale.value for _, scale in known]
        axes.errorbar(
            [place for place, _ in known], [scale.value for _, scale in known], yerr=None if crowded else [down, up], color=style.color,
            marker=style.marker, elinewidth=0.8, markersize=3 if crowded else 4, linewidth=0.8,
            linestyle=style.dashes if filled and not crowded else "none", markerfacecolor=style.color if filled else "white",
            markeredgewidth=0.6, alpha=0.7 if crowded else 1.0,
        )  # fmt: skip
    open_ended = [(place, scale.low) for place, scale in drawn if scale.high is None and scale.low]
    if open_ended:
        axes.plot(
            *zip(*open_ended, strict=True), linestyle="none", marker=r"$\uparrow$", markersize=5 if crowded else 7, color=style.color,
            alpha=0.35 if crowded else 1.0,
        )  # fmt: skip
