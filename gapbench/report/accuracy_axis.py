"""An accuracy axis that is logarithmic in the error, so that accuracies near 100 % are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gapbench.analysis.curves import Curve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

ERROR_FLOOR = 5e-4
"""Accuracies above 1 - this are drawn as that: an error of zero has no place on a logarithmic axis."""

_TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_FINE_TICKS = (0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998)


def drawable(accuracy: Any) -> Any:
    """Returns accuracies (fractions), those that have no place on the axis as the highest that has."""
    return np.minimum(accuracy, 1 - ERROR_FLOOR)


def drawable_curves(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Returns curves of accuracies with every value in its place on the axis."""
    return {run: replace(curve, values=drawable(curve.values)) for run, curve in curves.items()}


def stretch_accuracy(places: Sequence[Axes]) -> None:
    """Makes the y axes of `places`, which share their scale, logarithmic in the error, in percent, around the lines drawn there."""
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
        axes.fmt_ydata = _said


def _said(accuracy: float) -> str:
    """What a point on the axis says of itself."""
    return f"test accuracy {100 * accuracy:.2f} %{' or more' if accuracy >= 1 - ERROR_FLOOR else ''}"


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
