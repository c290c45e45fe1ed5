"""Drift and spread of the weights over data orders from one initialization, from sketches of their displacements.

Of S displacements d_i: V = sum |d_i - mean d|^2 / (S - 1); spread^2 = V; drift^2 = mean |d|^2 - V. What all orders share is drift and no
diffusion: a distance alone cannot tell the two. Intervals are jackknifed over the orders, and the sketch's own error is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.analysis.stats import LEVEL, t_quantile

Array = npt.NDArray[np.float64]

FEWEST_ORDERS = 8
QUANTITIES = ("total", "drift", "spread")


@dataclass(frozen=True, eq=False)
class Logs:
    """The natural logarithm of a quantity: of all orders first, then without each of them; [1 + order, point]. Drift may be NaN."""

    replicates: Array
    sketch_error: Array
    """Standard error of the logarithm that the sketch brings in, [point]."""

    @property
    def orders(self) -> int:
        """How many orders there are."""
        return len(self.replicates) - 1

    @property
    def value(self) -> Array:
        """Of all orders, [point]."""
        return np.asarray(self.replicates[0])

    def error(self) -> Array:
        """Returns the standard error, [point]."""
        return np.asarray(np.hypot(jackknife_error(self.replicates), self.sketch_error))

    def separated(self, level: float = LEVEL) -> npt.NDArray[np.bool_]:
        """Returns where the square of the quantity is separated from zero, [point]: elsewhere its logarithm means nothing."""
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * t_quantile(level, self.orders - 1) * self.error() < 1)

    def bounds(self, level: float = LEVEL) -> tuple[Array, Array]:
        """Returns the t interval of the logarithm."""
        half = t_quantile(level, self.orders - 1) * self.error()
        return self.value - half, self.value + half


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Drift and spread of one cell against the update count."""

    updates: Array
    logs: dict[str, Logs]
    """By name of QUANTITIES: distances, not their squares. `total` is the root mean square distance."""
    share: Array
    """spread^2 / mean |d|^2, [1 + order, point]; a fraction."""
    sketch_share: float
    """Relative standard error that the sketch leaves in V at the last update."""


def decompose(updates: Array, distances: Array, sketches: Array) -> Decomposition:
    """Splits the mean squared distance.

    Args:
        updates: [point].
        distances: ||d_i||, [order, point], exact; at least three orders.
        sketches: count sketches of d_i, [order, point, bucket].
    """
    orders = len(distances)
    centred = sketches - sketches.mean(axis=0)
    own = np.square(centred).sum(axis=2)
    spread2 = _left_out(own.sum(axis=0), own * orders / (orders - 1), orders - 1)
    squares = np.square(distances)
    total2 = _left_out(squares.sum(axis=0), squares, orders)
    drift2 = total2 - spread2
    gram = np.einsum("itk,jtk->tij", centred, centred)
    relative = np.sqrt(2 / sketches.shape[2] * np.square(gram).sum(axis=(1, 2))) / own.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = {name: 0.5 * np.log(square) for name, square in zip(QUANTITIES, (total2, drift2, spread2), strict=True)}
        of_drift = relative * spread2[0] / (2 * drift2[0])
    errors = {"total": np.zeros(len(updates)), "drift": np.abs(of_drift), "spread": relative / 2}
    return Decomposition(updates, {name: Logs(logs[name], errors[name]) for name in QUANTITIES}, spread2 / total2, float(relative[-1]))


def jackknife_error(replicates: Array) -> Array:
    """Returns the standard error from leave-one-out values: replicates[0] is of all, the others [order, ...] lack one each."""
    left_out = replicates[1:]
    count = len(left_out)
    return np.asarray(np.sqrt((count - 1) / count * np.square(left_out - left_out.mean(axis=0)).sum(axis=0)))


def _left_out(total: Array, own: Array, count: int) -> Array:
    """Returns sum / count of all, then of all but each: [1 + order, point]."""
    return np.concatenate([total[None] / count, (total - own) / (count - 1)])
