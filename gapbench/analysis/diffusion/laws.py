"""Laws of growth fitted to curves: one nested exponent, and the named laws that make predictions beyond the fitted updates.

    d = a + b (t^p - 1) / p,   p = 0: a + b ln t (the logarithmic law), p = 1/2: a walk on a flat potential

One exponent with an interval over runs says more than a choice among laws: points of one trajectory are correlated, so that information
criteria prefer wrong laws in a fifth of all draws, and mostly by a lot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BOUND = 3.0
"""Exponents are looked for between -BOUND and BOUND; a curve whose best one lies there determines none."""
FEWEST_POINTS = 5
"""For three parameters and something left over."""

_GRID = np.linspace(-BOUND, BOUND, 241)
_MEMORIES = np.linspace(np.log(0.02), np.log(100.0), 241)
_ROUNDS = 5


@dataclass(frozen=True)
class NestedFit:
    """Least squares of d = a + b (t^p - 1) / p, one for each curve."""

    exponent: Array
    """p by curve; NaN where the curve determines none (it lies at a bound, or the curve is flat)."""
    standard_error: Array
    """Of p, from the residuals as if they were independent. Those of one trajectory are not: too small as an interval."""


def nested_fit(updates: Array, values: Array) -> NestedFit:
    """Fits the nested exponent.

    Args:
        updates: [point], positive, four or more.
        values: [curve, point].
    """
    logs = np.log(updates) - np.log(updates).mean()  # the family is the same in any unit of time

    def shape(exponent: Array) -> Array:
        return _box_cox(logs, exponent)

    exponent = _profile(values, shape, _GRID, intercept=True)
    error = _standard_error(logs, values, exponent)
    flat = np.ptp(values, axis=1) <= 1e-9 * np.abs(values).max(axis=1, initial=0.0)
    lost = (np.abs(exponent) >= BOUND) | flat
    return NestedFit(np.where(lost, np.nan, exponent), np.where(lost, np.nan, error))


def local_exponent(updates: Array, log_values: Array, width: float = 1.0) -> Array:
    """Returns d ln(value) / d ln(update): the least squares slope over the points within half of `width` e-folds on either side.

    Args:
        updates: [point].
        log_values: [..., point], natural logarithms.
        width: of the neighbourhood, in e-folds of the update count.

    Returns:
        [..., point], NaN where fewer than three points are near or the neighbourhood is cut off by an end.
    """
    logs = np.log(updates)
    out = np.full(log_values.shape, np.nan)
    for place, centre in enumerate(logs):
        near = np.abs(logs - centre) <= width / 2 + 1e-9
        reaches = centre - width / 2 >= logs[0] - 0.1 and centre + width / 2 <= logs[-1] + 0.1
        if near.sum() >= 3 and reaches:
            x = logs[near] - logs[near].mean()
            out[..., place] = (log_values[..., near] * x).sum(axis=-1) / (x @ x)
    return out


def predict_logarithmic(updates: Array, values: Array, at: Array) -> Array:
    """Fits a + b ln t and returns what it says of the updates `at`: [curve, len(at)]."""
    return _predicted(np.log(updates)[None], np.log(at)[None], values, intercept=True)


def predict_power(updates: Array, values: Array, at: Array) -> Array:
    """The same of c t^p."""
    centre = np.log(updates).mean()
    power = _profile(values, lambda p: np.exp(p[:, None] * (np.log(updates) - centre)), _GRID, intercept=False)[:, None]
    shapes = np.exp(power * (np.log(updates) - centre)), np.exp(power * (np.log(at) - centre))
    return _predicted(*shapes, values, intercept=False)


def predict_saturation(updates: Array, values: Array, at: Array) -> Array:
    """The same of a sqrt(1 - e^(-t / tau)): a walk that forgets, as under weight decay. Tau from 0.02 to 100 times the last update."""

    def shape(logarithm: Array, times: Array) -> Array:
        return np.asarray(np.sqrt(-np.expm1(-times / (updates[-1] * np.exp(logarithm[:, None])))))

    tau = _profile(values, lambda logarithm: shape(logarithm, updates), _MEMORIES, intercept=False)
    return _predicted(shape(tau, updates), shape(tau, at), values, intercept=False)


LAWS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "log law": predict_logarithmic,
    "power law": predict_power,
    "weight-decay saturation": predict_saturation,
}
"""Two parameters each, so that none predicts better by bending more."""


def _box_cox(logs: Array, exponent: Array) -> Array:
    """Returns (t^p - 1) / p, [exponent, point]."""
    p = np.asarray(exponent)[:, None]
    small = np.abs(p) < 1e-9
    return np.asarray(np.where(small, logs, np.expm1(p * logs) / np.where(small, 1.0, p)))


def _profile(values: Array, shape: Callable[[Array], Array], grid: Array, *, intercept: bool) -> Array:
    """Returns, by curve, the nonlinear parameter whose shape explains most: the best of a grid, refined by parabolas."""
    own = values - values.mean(axis=1, keepdims=True) if intercept else values
    best = grid[np.square(own @ _unit(shape(grid), intercept).T).argmax(axis=1)]
    step = float(grid[1] - grid[0])
    for _ in range(_ROUNDS):
        low, middle, high = (np.square((own * _unit(shape(best + shift), intercept)).sum(axis=1)) for shift in (-step, 0.0, step))
        bend = low - 2 * middle + high
        moved = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1.0), 0.0)
        best = np.clip(best + step * np.clip(moved, -1.0, 1.0), grid[0], grid[-1])
        step /= 4
    return np.asarray(best)


def _unit(shapes: Array, intercept: bool) -> Array:
    own = shapes - shapes.mean(axis=1, keepdims=True) if intercept else shapes
    return np.asarray(own / np.linalg.norm(own, axis=1, keepdims=True))


def _predicted(shapes: Array, later: Array, values: Array, *, intercept: bool) -> Array:
    """Returns the least squares fit of values to shapes [curve or 1, point], carried on to `later`."""
    shift = shapes.mean(axis=1, keepdims=True) if intercept else 0.0
    level = values.mean(axis=1, keepdims=True) if intercept else 0.0
    x = shapes - shift
    slope = ((values - level) * x).sum(axis=1, keepdims=True) / np.square(x).sum(axis=1, keepdims=True)
    return np.asarray(level + slope * (later - shift))


def _standard_error(logs: Array, values: Array, exponent: Array) -> Array:
    """Returns the standard error of p from the curvature of the sum of squares in (a, b, p)."""
    x = _box_cox(logs, exponent)
    small = np.abs(exponent)[:, None] < 1e-4
    p = np.where(small, 1.0, exponent[:, None])
    slope_in_p = np.where(small, logs**2 / 2 + exponent[:, None] * logs**3 / 3, (np.exp(p * logs) * (p * logs - 1) + 1) / p**2)
    centred, target = x - x.mean(axis=1, keepdims=True), values - values.mean(axis=1, keepdims=True)
    b = (target * centred).sum(axis=1) / np.square(centred).sum(axis=1)
    left = np.square(target - b[:, None] * centred).sum(axis=1)
    bend = b[:, None] * slope_in_p
    bend = bend - bend.mean(axis=1, keepdims=True)
    own = bend - centred * ((bend * centred).sum(axis=1) / np.square(centred).sum(axis=1))[:, None]
    freedom = len(logs) - 3
    weight = np.square(own).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(left / freedom / weight)) if freedom > 0 else np.full(len(values), np.nan)
