"""Figures of noise scales: against examples and against train loss, with intervals and the batch size of the run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from gapbench.analysis.noise_scale.study import NoiseStudy, RunNoise, loss_at
from gapbench.report.drawing import plain_numbers
from gapbench.report.style import MUTED, Style, batch_style, new_figure, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def noise_scale_drawings(found: NoiseStudy) -> Mapping[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name. To be called in the house's style."""
    return {"noise_scale": lambda: _draw(found)}


def _draw(found: NoiseStudy) -> Figure:
    panels = list(dict.fromkeys(run.panel.title for run in found.runs))
    if not panels:
        figure = new_figure(5.0, 2.0)
        say(figure, "No run has measured its noise scale.")
        return figure
    crowded = max(sum(run.panel.title == title for run in found.runs) for title in panels) > CROWDED
    lines = textwrap.wrap(CAPTION_CROWDED if crowded else CAPTION, 165)
    below = 0.12 + 0.16 * len(lines)
    figure = new_figure(10.6, 3.6 * len(panels) + below)
    above, under = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.6 * len(panels), below])[:, 0]
    rows = above.subplots(len(panels), 2, squeeze=False, sharey="row")
    for (left, right), title in zip(rows, panels, strict=True):
        runs = [run for run in found.runs if run.panel.title == title]
        sizes = sorted({run.cell.batch_size for run in runs})
        cells = {size: sorted({run.cell.name for run in runs if run.cell.batch_size == size}) for size in sizes}
        for run in runs:
            style = batch_style(sizes.index(run.cell.batch_size), len(sizes))
            _draw_run(left, right, run, style, crowded)
        for position, size in enumerate(sizes):
            style = batch_style(position, len(sizes))
            label = cells[size][0] if len(cells[size]) == 1 else f"batch size {size:,} ({len(cells[size])} cells)"
            right.plot([], [], color=style.color, marker=style.marker, markersize=4, linestyle="none", label=label)
        left.set_title(title, fontsize=9)
        left.set_xlabel("examples seen (log scale)")
        right.set_xlabel("train loss (log scale, falling to the right)")
        left.set_ylabel("noise scale, examples (log scale)")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_yscale("log")
            plain_numbers(axes.xaxis, axes.get_xlim())
        plain_numbers(left.yaxis, left.get_ylim())
        right.invert_xaxis()
        right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7.5)
    under.text(0.012, 1, "\n".join(lines), ha="left", va="top", fontsize=8, color=MUTED, linespacing=1.35)
    return figure


def _draw_run(left: Axes, right: Axes, run: RunNoise, style: Style, crowded: bool) -> None:
    """Draws one run: with its intervals and a line, or as bare dots where there are many."""
    for series, filled in ((run.probed, True), (run.streamed, False)):
        points = [noise for noise in series if noise.update > 0]
        for axes, places in (
            (left, [noise.update * run.cell.batch_size for noise in points]),
            (right, [loss_at(run.loss, noise.update) for noise in points]),
        ):
            drawn = [(place, noise.dataset) for place, noise in zip(places, points, strict=True) if place is not None]
            own = [(place, scale) for place, scale in drawn if np.isfinite(scale.value) and (scale.low is None or scale.high is not None)]
            if own:
                at, values = [place for place, _ in own], [scale.value for _, scale in own]
                low = [scale.value - (scale.low if scale.low is not None else scale.value) for _, scale in own]
                high = [(scale.high if scale.high is not None else scale.value) - scale.value for _, scale in own]
                axes.errorbar(
                    at, values, yerr=None if crowded else [low, high], color=style.color, marker=style.marker, elinewidth=0.8,
                    markersize=3 if crowded else 4, linewidth=0.8, linestyle=style.dashes if filled and not crowded else "none",
                    markerfacecolor=style.color if filled else "white", markeredgewidth=0.6, alpha=0.7 if crowded else 1.0,
                )  # fmt: skip
            open_ended = [(place, scale.low) for place, scale in drawn if scale.high is None and scale.low]
            if open_ended:
                axes.plot(
                    *zip(*open_ended, strict=True), linestyle="none", marker=r"$\uparrow$", markersize=5 if crowded else 7,
                    color=style.color, alpha=0.35 if crowded else 1.0,
                )  # fmt: skip
    for axes in (left, right):
        axes.axhline(run.cell.batch_size, color=style.color, linewidth=0.7, linestyle=(0, (1, 2)))
