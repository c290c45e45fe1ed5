"""Figures of the analysis of diffusion: drift and spread, local exponents, collapse, and what is left of the initial weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell
from gapbench.analysis.diffusion.study import PanelStudy, local_exponents, run_exponents
from gapbench.analysis.diffusion.walks import CLOCKS, Decomposition, Walks, decayed_walk_exponent
from gapbench.report.drawing import MOST_ARMS, Series, facets, panel_figure, update_axis
from gapbench.report.style import MUTED, PAPER, SHADE, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


Array = npt.NDArray[np.float64]

TITLES = {"total": "total distance", "drift": "drift: common to all orders", "spread": "spread between orders"}
AXES = {
    CLOCKS[0]: "updates (log scale)",
    CLOCKS[1]: r"$\Sigma\,\eta$  (log scale)",
    CLOCKS[2]: r"$\Sigma\,\eta^2 / B$  (log scale)",
}
WINDOW = "Shaded: the window that all cells have."
COLOURED = 5
"""Cells in colour where they are many: those that stand first in the suite, such as the paper's arms."""
OTHERS = "others: in the CSV files"
GUIDE, FREE = "square root", "free walk: 0.5"
ORDERS = "Bands: 95 % t intervals by jackknife over data orders, with the error of the sketch."


def diffusion_drawings(found: Sequence[PanelStudy]) -> dict[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name. Call it in the house's style."""
    return {
        "drift_and_spread": lambda: _drift_and_spread(found),
        "local_exponents": lambda: _local_exponents(found),
        "collapse": lambda: _collapse(found),
        "weight_cosine": lambda: _cosines(found),
    }


def _drift_and_spread(found: Sequence[PanelStudy]) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy) -> Sequence[Axes]:
        names = [*TITLES] if _decomposed(panel) else ["total"]
        places = part.subplots(1, len(names), squeeze=False, sharex=True, sharey=True)[0]
        for axes, name in zip(places, names, strict=True):
            axes.set_title(TITLES[name])
            for walks, one in _drawn(panel):
                if walks.decomposition is not None:
                    _line(axes, one, walks.decomposition.updates, *_exp(walks.decomposition, name))
                elif name == "total":
                    _line(axes, one, walks.updates, walks.distances.mean(axis=0))
            _log_axes(axes, panel)
        if len(names) > 1:
            _guide(places[-1], panel)
        places[0].set_ylabel(r"distance from $w_0$ (log scale)")
        return list(places)

    remark = (
        f"{ORDERS} Total: root mean square distance; its square is drift squared plus spread squared. Drift is drawn where it is separated "
        f"from zero. {WINDOW}"
    )
    return _figure(found, 8.6, draw, _walked, remark, GUIDE)


def _local_exponents(found: Sequence[PanelStudy]) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy) -> Sequence[Axes]:
        columns = 2 if _decomposed(panel) else 1
        places = part.subplots(1, columns, squeeze=False, sharex=True, sharey=True)[0]
        for walks, one in _drawn(panel):
            _line(places[0], one, walks.updates, *run_exponents(walks))
            if (split := walks.decomposition) is not None:
                _line(places[1], one, split.updates, *local_exponents(split.updates, split.logs["spread"]))
            for axes in places:
                _decay_alone(axes, walks, one, decayed_walk_exponent, linewidth=0.8)
        for axes, title in zip(places, ("distance of each run", "spread between orders"), strict=False):
            axes.set_title(title)
            _log_axes(axes, panel, linear=True)
            axes.axhline(0.5, color=PAPER, linewidth=0.9, linestyle=(0, (4, 2)), label=FREE)
        places[0].set_ylabel("d ln distance / d ln updates")
        return list(places)

    remark = (
        "Local exponents over one e-fold of updates; a logarithmic law has none that stays. Bands: 95 % t intervals over runs, and by "
        f"jackknife over orders. Thin dotted: a free walk under the same weight decay. {WINDOW}"
    )
    return _figure(found, 7.6, draw, _walked, remark, FREE)


def _collapse(found: Sequence[PanelStudy]) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy) -> Sequence[Axes]:
        places = part.subplots(1, len(CLOCKS), squeeze=False, sharey=True)[0]
        for axes, clock in zip(places, CLOCKS, strict=True):
            for walks, one in _drawn(panel):
                if (split := walks.decomposition) is not None:
                    _line(axes, one, walks.clock.at(clock, split.updates), *_exp(split, "spread"))
            axes.set(xscale="log", yscale="log", xlabel=AXES[clock])
            axes.set_title(clock)
        places[0].set_ylabel("spread between orders (log scale)")
        return list(places)

    remark = f"The same spread against three clocks: where a rule restores the walk of small batches, lines lie on one another. {ORDERS}"
    return _figure(found, 8.6, draw, _decomposed, remark)


def _cosines(found: Sequence[PanelStudy]) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy) -> Sequence[Axes]:
        axes = part.subplots()
        for walks, one in _drawn(panel):
            for cosine in walks.cosines:
                axes.plot(cosine.updates, cosine.values, color=one.style.color, linewidth=0.7, alpha=0.6, linestyle=one.style.dashes)
            if walks.cosines:
                axes.plot([], [], color=one.style.color, linestyle=one.style.dashes, label=literal(one.label))
            _decay_alone(axes, walks, one, lambda memory: np.exp(-memory), linewidth=0.9)
        _log_axes(axes, panel, linear=True)
        axes.set_ylabel(r"$\cos(w_t, w_0)$")
        return [axes]

    derived = any(walks.derived and walks.cosines for panel in found for walks in panel.walks)
    remark = "Every run a line. Dotted: exp(-t / memory), what weight decay alone would leave; none where there is no decay. " + (
        "Cosines are derived from norms and distance where none was measured; the CSV says how far off they may be. " if derived else ""
    )
    return _figure(found, 5.6, draw, lambda panel: any(walks.cosines for walks in panel.walks), remark + WINDOW)


def _figure(
    found: Sequence[PanelStudy],
    width: float,
    draw: Callable[[SubFigure, PanelStudy], Sequence[Axes]],
    measured: Callable[[PanelStudy], bool],
    remark: str,
    *more_labels: str,
) -> Figure:
    def labels(panels: Sequence[PanelStudy]) -> list[str]:
        return [one.label for panel in panels for _, one in _drawn(panel)] + [*more_labels]

    return panel_figure(found, width, lambda _: 3.5, measured, draw, remark, labels)


def _label(cell: Cell) -> str:
    """Names a cell with its batch size and rate."""
    return f"{cell.name} (B {cell.batch_size}, {cell.learning_rate:.3g})"


def _drawn(panel: PanelStudy) -> Iterator[tuple[Walks, Series]]:
    """Yields what is drawn, in the style of the report's figures; of many the first in colour, the others gray.

    A twin's lines would lie on its original's.
    """
    styles = {one.cell.name: one.style for facet in facets(panel.panel) for one in facet.series}
    told = panel.told
    for position, own in enumerate(told):
        cell = own.walks.cell
        if len(told) <= MOST_ARMS or position < COLOURED:
            yield own.walks, Series(cell, _label(cell), styles[cell.name])
        else:
            yield own.walks, Series(cell, OTHERS, replace(styles[cell.name], color=PAPER))


def _walked(panel: PanelStudy) -> bool:
    return bool(panel.cells)


def _decomposed(panel: PanelStudy) -> bool:
    return any(walks.decomposition is not None for walks in panel.walks)


def _exp(decomposition: Decomposition, name: str) -> tuple[Array, Array, Array]:
    logs = decomposition.logs[name]
    value, low, high = map(np.exp, logs.with_bounds())
    return np.where(logs.separated(), value, np.nan), low, high


def _line(axes: Axes, one: Series, updates: Array, values: Array, low: Array | None = None, high: Array | None = None) -> None:
    known = np.isfinite(values)
    if not known.any():
        return
    every: Any = 1 if known.sum() < 4 else (0.02, 0.16)
    axes.plot(updates[known], values[known], label=literal(one.label), markersize=4, markevery=every, **one.style.line)
    if low is not None and high is not None and np.isfinite(low[known]).any():
        axes.fill_between(updates[known], low[known], high[known], color=one.style.color, alpha=0.15, linewidth=0)


def _decay_alone(axes: Axes, walks: Walks, one: Series, of_memory: Callable[[Array], Array], linewidth: float) -> None:
    """Draws, thin and dotted, what weight decay alone would make of it; nothing where there is no decay."""
    memory = walks.clock.memory(walks.updates)
    if memory[-1] > 0:
        axes.plot(walks.updates, of_memory(memory), color=one.style.color, linewidth=linewidth, linestyle=(0, (1, 1.5)))


def _log_axes(axes: Axes, panel: PanelStudy, *, linear: bool = False) -> None:
    """Makes the x axis logarithmic, and the y axis unless `linear`; shades the common window."""
    update_axis(axes)
    if not linear:
        axes.set_yscale("log")
    axes.label_outer()
    if panel.common.last > panel.common.first:
        axes.axvspan(panel.common.first, panel.common.last, color=SHADE, zorder=0)


def _guide(axes: Axes, panel: PanelStudy) -> None:
    """Draws the slope of a free walk through the reference's spread at the beginning of the window."""
    known = [(walks.cell.reference, walks.decomposition) for walks in panel.walks if walks.decomposition is not None]
    _, found = max(known, key=lambda pair: pair[0])
    inside = found.updates >= min(panel.common.first, found.updates[-1])
    updates, level = found.updates[inside], float(np.exp(found.logs["spread"].value[inside][0]))
    axes.plot(updates, level * np.sqrt(updates / updates[0]), color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label=GUIDE)
