"""Figures of the analysis of diffusion: drift and spread, local exponents, collapse, and what is left of the initial weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Panel
from gapbench.analysis.diffusion import PanelStudy, Study
from gapbench.analysis.diffusion.study import local_exponents, run_exponents
from gapbench.analysis.diffusion.walks import CLOCKS, Decomposition, Walks, decayed_walk_exponent
from gapbench.report.drawing import Series, facets, panel_figure, update_axis
from gapbench.report.style import MUTED, PAPER, SHADE

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
GUIDE = "square root"
ORDERS = "Bands: 95 % t intervals by jackknife over data orders, with the error of the sketch."


def diffusion_drawings(found: Study) -> dict[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name. Call it in the house's style."""
    return {
        "drift_and_spread": lambda: _drift_and_spread(found),
        "local_exponents": lambda: _local_exponents(found),
        "collapse": lambda: _collapse(found),
        "weight_cosine": lambda: _cosines(found),
    }


def _drift_and_spread(found: Study) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy, series: Mapping[str, Series]) -> Sequence[Axes]:
        names = [*TITLES] if _decomposed(panel) else ["total"]
        places = part.subplots(1, len(names), squeeze=False, sharex=True, sharey=True)[0]
        for axes, name in zip(places, names, strict=True):
            axes.set_title(TITLES[name])
            for walks, one in _in_order(panel, series):
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
    return _figure(found, 8.6, draw, lambda panel: bool(panel.walks), remark, [GUIDE])


def _local_exponents(found: Study) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy, series: Mapping[str, Series]) -> Sequence[Axes]:
        columns = 2 if _decomposed(panel) else 1
        places = part.subplots(1, columns, squeeze=False, sharex=True, sharey=True)[0]
        for walks, one in _in_order(panel, series):
            _line(places[0], one, walks.updates, *run_exponents(walks))
            if walks.decomposition is not None:
                logs = walks.decomposition.logs["spread"]
                _line(places[1], one, walks.decomposition.updates, *local_exponents(walks.decomposition.updates, logs))
            memory = walks.clock.memory(walks.updates)
            if memory[-1] > 0:
                for axes in places:
                    axes.plot(walks.updates, decayed_walk_exponent(memory), color=one.style.color, linewidth=0.8, linestyle=(0, (1, 1.5)))
        for axes, title in zip(places, ("distance of each run", "spread between orders"), strict=False):
            axes.set_title(title)
            _log_axes(axes, panel, linear=True)
            axes.axhline(0.5, color=PAPER, linewidth=0.9, linestyle=(0, (4, 2)), label="free walk: 0.5")
        places[0].set_ylabel("d ln distance / d ln updates")
        return list(places)

    remark = (
        "Local exponents over one e-fold of updates; a logarithmic law has none that stays. Bands: 95 % t intervals over runs, and by "
        f"jackknife over orders. Thin dotted: a free walk under the same weight decay. {WINDOW}"
    )
    return _figure(found, 7.6, draw, lambda panel: bool(panel.walks), remark, ["free walk: 0.5"])


def _collapse(found: Study) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy, series: Mapping[str, Series]) -> Sequence[Axes]:
        places = part.subplots(1, len(CLOCKS), squeeze=False, sharey=True)[0]
        for axes, clock in zip(places, CLOCKS, strict=True):
            for walks, one in _in_order(panel, series):
                if walks.decomposition is not None:
                    times = walks.clock.at(clock, walks.decomposition.updates)
                    _line(axes, one, times, *_exp(walks.decomposition, "spread"))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(AXES[clock])
            axes.set_title(clock)
        places[0].set_ylabel("spread between orders (log scale)")
        return list(places)

    remark = f"The same spread against three clocks: where a rule restores the walk of small batches, lines lie on one another. {ORDERS}"
    return _figure(found, 8.6, draw, _decomposed, remark, [])


def _cosines(found: Study) -> Figure:
    def draw(part: SubFigure, panel: PanelStudy, series: Mapping[str, Series]) -> Sequence[Axes]:
        axes = part.subplots()
        for walks, one in _in_order(panel, series):
            for cosine in walks.cosines:
                axes.plot(cosine.updates, cosine.values, color=one.style.color, linewidth=0.7, alpha=0.6, linestyle=one.style.dashes)
            if walks.cosines:
                axes.plot([], [], color=one.style.color, linestyle=one.style.dashes, label=one.label)
            memory = walks.clock.memory(walks.updates)
            if memory[-1] > 0:
                axes.plot(walks.updates, np.exp(-memory), color=one.style.color, linewidth=0.9, linestyle=(0, (1, 1.5)))
        _log_axes(axes, panel, linear=True)
        axes.set_ylabel(r"$\cos(w_t, w_0)$")
        return [axes]

    derived = any(walks.derived and walks.cosines for panel in found.panels for walks in panel.walks)
    remark = "Every run a line. Dotted: exp(-t / memory), what weight decay alone would leave; none where there is no decay. " + (
        "Cosines are derived from norms and distance where none was measured; the CSV says how far off they may be. " if derived else ""
    )
    return _figure(found, 5.6, draw, lambda panel: any(walks.cosines for walks in panel.walks), remark + WINDOW, [])


def _figure(
    found: Study,
    width: float,
    draw: Callable[[SubFigure, PanelStudy, Mapping[str, Series]], Sequence[Axes]],
    measured: Callable[[PanelStudy], bool],
    remark: str,
    more_labels: Sequence[str],
) -> Figure:
    studies = {id(panel.panel): panel for panel in found.panels}
    series = {id(panel.panel): _series(panel) for panel in found.panels}

    def labels(panels: Sequence[Panel]) -> list[str]:
        return [one.label for panel in panels for one in series[id(panel)].values()] + [*more_labels]

    return panel_figure(
        [panel.panel for panel in found.panels],
        width,
        lambda _: 3.5,
        lambda panel: measured(studies[id(panel)]),
        lambda part, panel: draw(part, studies[id(panel)], series[id(panel)]),
        remark,
        labels,
    )


def _series(panel: PanelStudy) -> dict[str, Series]:
    """Returns the style of every cell as in the report's figures, and a label that names batch size and rate."""
    own = [series for facet in facets(panel.panel) for series in facet.series]
    return {
        one.cell.name: Series(one.cell, f"{one.cell.name} (B {one.cell.batch_size}, {one.cell.learning_rate:.3g})", one.style)
        for one in own
    }


def _in_order(panel: PanelStudy, series: Mapping[str, Series]) -> Iterator[tuple[Walks, Series]]:
    """Yields what is drawn; a twin's lines would lie on its original's."""
    twins = {twin.perturbed.cell.name for twin in panel.twins}
    return ((walks, series[walks.cell.name]) for walks in panel.walks if walks.cell.name not in twins)


def _decomposed(panel: PanelStudy) -> bool:
    return any(walks.decomposition is not None for walks in panel.walks)


def _exp(decomposition: Decomposition, name: str) -> tuple[Array, Array, Array]:
    logs = decomposition.logs[name]
    low, high = logs.bounds()
    return np.where(logs.separated(), np.exp(logs.value), np.nan), np.exp(low), np.exp(high)


def _line(axes: Axes, one: Series, updates: Array, values: Array, low: Array | None = None, high: Array | None = None) -> None:
    known = np.isfinite(values)
    if not known.any():
        return
    every: Any = 1 if known.sum() < 4 else (0.02, 0.16)
    axes.plot(updates[known], values[known], label=one.label, markersize=4, markevery=every, **one.style.line)
    if low is not None and high is not None and np.isfinite(low[known]).any():
        axes.fill_between(updates[known], low[known], high[known], color=one.style.color, alpha=0.15, linewidth=0)


def _log_axes(axes: Axes, panel: PanelStudy, *, linear: bool = False) -> None:
    """Makes the x axis logarithmic, and the y axis unless `linear`; shades the common window."""
    update_axis(axes)
    if not linear:
        axes.set_yscale("log")
    axes.label_outer()
    if panel.common is not None and panel.common.last > panel.common.first:
        axes.axvspan(panel.common.first, panel.common.last, color=SHADE, zorder=0)


def _guide(axes: Axes, panel: PanelStudy) -> None:
    """Draws the slope of a free walk through the reference's spread at the beginning of the window."""
    starts = [walks for walks in panel.walks if walks.decomposition is not None]
    first = next((walks for walks in starts if walks.cell.reference), starts[0])
    found = first.decomposition
    assert found is not None
    assert panel.common is not None
    inside = found.updates >= min(panel.common.first, found.updates[-1])
    updates, level = found.updates[inside], float(np.exp(found.logs["spread"].value[inside][0]))
    axes.plot(updates, level * np.sqrt(updates / updates[0]), color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label=GUIDE)
