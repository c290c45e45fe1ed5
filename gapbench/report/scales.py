"""Metrics as people see them: their names, units and digits, and an axis on which high accuracies are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gapbench.analysis.cells import Cell, in_unit
from gapbench.analysis.curves import Curve
from gapbench.analysis.formats import loss, range_text
from gapbench.analysis.stats import Estimate, t_interval
from gapbench.catalog import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP_UNITS = {"pp": "percentage points"}
"""Units of gaps as an axis writes them, where that is not the short form."""
ERROR_FLOOR = 5e-4
"""Accuracies above 1 - this are drawn as that: an error of zero has no place on a logarithmic axis."""

_TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_FINE_TICKS = (0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998)


def is_share(metric: Metric) -> bool:
    """Whether values lie between 0 and 1, such as accuracies: an axis then ends at 100 %."""
    return metric.unit == "%"


def words(metric: Metric, split: str = "test") -> str:
    """Returns "test accuracy"."""
    return metric.column(split).replace("_", " ")


def axis_label(metric: Metric) -> str:
    """Returns "test accuracy (%)"."""
    return f"{words(metric)} ({metric.unit})"


def gap_label(metric: Metric) -> str:
    """Returns "test accuracy (percentage points)"."""
    return f"{words(metric)} ({GAP_UNITS.get(metric.gap_unit, metric.gap_unit)})"


def heading(metric: Metric, split: str = "test") -> str:
    """Returns "test accuracy, %", or "test loss" of a metric whose unit goes without saying."""
    return f"{words(metric, split)}, %" if is_share(metric) else words(metric, split)


def least_half_width(metric: Metric) -> float:
    """Returns the least half width of an axis, in the unit shown: half of a notable gap; next to nothing where none is known."""
    return 1e-6 if metric.notable_gap is None else metric.notable_gap / 2


def shown_estimate(cell: Cell, metric: Metric) -> Estimate | None:
    """Returns the mean of a cell with its interval, as people are shown them."""
    return t_interval([*in_unit(cell, metric).values()])


def number_text(metric: Metric, shown: float) -> str:
    """Returns a value that is in the unit shown, without that unit: "96.95"."""
    return f"{shown:.4g}" if metric.decimals is None else f"{shown:.{metric.decimals}f}"


def value_text(metric: Metric, shown: float) -> str:
    """Returns a value that is in the unit shown: "96.95 %"."""
    return f"{number_text(metric, shown)} {metric.unit}"


def mean_text(metric: Metric, estimate: Estimate) -> str:
    """Returns "mean 96.95 % (96.30 to 97.60), n = 8", or "mean 0.0312 ± 0.0004 nats, n = 8" where digits follow the size."""
    if metric.decimals is None:
        return f"mean {loss(estimate)} {metric.unit}, n = {estimate.n}"
    interval = "" if estimate.low is None or estimate.high is None else f" ({range_text(estimate.low, estimate.high, metric.decimals)})"
    return f"mean {value_text(metric, estimate.mean)}{interval}, n = {estimate.n}"


def drawable(accuracy: Any) -> Any:
    """Returns accuracies (fractions), those that have no place on the axis as the highest that has."""
    return np.minimum(accuracy, 1 - ERROR_FLOOR)


def drawable_curves(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Returns curves of accuracies with every value in its place on the axis."""
    return {run: replace(curve, values=drawable(curve.values)) for run, curve in curves.items()}


def stretch_accuracy(places: Sequence[Axes], name: str = "test accuracy") -> None:
    """Makes the y axes of `places`, which share their scale, logarithmic in the error, in percent, around the lines drawn there.

    Args:
        places: axes on which accuracies (fractions) are drawn.
        name: what a point on an axis calls its value.
    """
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
        axes.fmt_ydata = partial(_said, name)


def _said(name: str, accuracy: float) -> str:
    return f"{name} {100 * accuracy:.2f} %{' or more' if accuracy >= 1 - ERROR_FLOOR else ''}"


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
