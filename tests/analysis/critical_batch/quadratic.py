"""A noisy quadratic on which everything is exact: expected loss, best constant rates, steps to a target, noise scales. No sampling.

Loss 1/2 sum h_i w_i^2, gradient noise of covariance diag(c_i) / B. Under SGD at a constant rate the expectation of every w_i^2 follows
m <- (1 - rate h)^2 m + rate^2 c / B, whatever the distribution of the noise, so that the expected loss is known at every update.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray

CURVATURES = 1.0 / np.arange(1, 101, dtype=np.float64)
NOISE = CURVATURES
"""Variance of single examples' gradients along each direction: more where the curvature is, as in networks."""
START = np.ones_like(CURVATURES)
"""Expected w_i^2 before training."""
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384)
TARGET = 0.02
"""Of the first loss."""
LONGEST = 20_000


class Best(NamedTuple):
    """The best constant rate of a batch size, and how it goes there."""

    batch_size: int
    rate: float
    steps: int
    """Updates until the expected loss is at the target."""


def loss(squares: Array) -> float:
    """Returns the expected loss, of expected w_i^2."""
    return float(0.5 * (CURVATURES * squares).sum())


def at(updates: Array, rate: float, batch_size: float) -> Array:
    """Returns the expected w_i^2 after so many updates, [update, direction]: the recursion in closed form."""
    shrink = (1.0 - rate * CURVATURES) ** 2
    floor = rate**2 * NOISE / batch_size / (1.0 - shrink)
    return np.asarray(floor + (START - floor) * shrink ** np.asarray(updates, dtype=np.float64)[:, None])


def steps_at(rate: float, batch_size: float) -> float:
    """Returns the updates until the expected loss is first at the target; infinity where it never is."""
    goal = TARGET * loss(START)
    places = np.unique(np.geomspace(1, LONGEST, 400).astype(int))
    below = np.flatnonzero(0.5 * at(places, rate, batch_size) @ CURVATURES <= goal)
    if len(below) == 0:
        return np.inf
    high = int(places[below[0]])
    low = int(places[below[0] - 1]) if below[0] else 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if loss(at(np.array([middle]), rate, batch_size)[0]) <= goal else (middle, high)
    return float(high)


def best_of(batch_size: int) -> Best:
    """Returns the rate with the fewest steps, by search: a grid, then a finer one about its best, three times over."""
    rates = np.geomspace(1e-3, 1.95, 60)
    for _ in range(3):
        steps = [steps_at(rate, batch_size) for rate in rates]
        place = int(np.argmin(steps))
        found = Best(batch_size, float(rates[place]), int(steps[place]))
        rates = np.geomspace(rates[max(0, place - 1)], rates[min(len(rates) - 1, place + 1)], 15)
    return found


def noise_scales(best: Best, points: int = 60) -> tuple[Array, Array]:
    """Returns updates and the noise scale tr(Sigma) / E|G|^2 there, on the way of the best rate."""
    updates = np.unique(np.geomspace(1, best.steps, points).astype(int))
    gradients = (CURVATURES**2 * at(updates, best.rate, best.batch_size)).sum(axis=1)
    return updates.astype(np.float64), float(NOISE.sum()) / gradients
