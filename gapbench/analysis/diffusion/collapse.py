"""Whether the curves of two batch sizes fall on one another: against updates, the sum of rates, or the noise that was put in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.analysis.diffusion.orders import Logs, jackknife_error
from gapbench.analysis.intervals import LEVEL, t_quantile

Array = npt.NDArray[np.float64]

POINTS = 60
"""Of the common range, evenly spaced in the logarithm of the clock."""


@dataclass(frozen=True)
class Bounded:
    """A number with its 95 % interval; bounds are NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Collapse:
    """One cell's curve against the reference's, over the clock's common range."""

    clock: str
    quantity: str
    first: float
    """Beginning of the common range, as the clock shows it."""
    last: float
    ratio: Bounded
    """Geometric mean of cell / reference."""
    deviation: Bounded
    """Mean of |cell - reference| / reference: the collapse score, 0 is perfect."""
    largest: float
    """Largest |cell - reference| / reference."""


def collapse(clock: str, quantity: str, cell: tuple[Array, Logs], reference: tuple[Array, Logs], level: float = LEVEL) -> Collapse | None:
    """Compares two curves where both have values; None where their clocks do not overlap, or one is not known.

    Args:
        clock: its name.
        quantity: its name.
        cell: what the clock shows at each point, ascending, and the logarithms there.
        reference: the same.
        level: of the intervals: t intervals by jackknife over the orders of either side.
    """
    if len(cell[0]) < 2 or len(reference[0]) < 2:
        return None
    low, high = max(cell[0][0], reference[0][0]), min(cell[0][-1], reference[0][-1])
    if not high > low * 1.05:
        return None
    grid = np.geomspace(low, high, POINTS)
    mine, theirs = (_interpolated(times, logs.replicates, grid) for times, logs in (cell, reference))
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return None
    sketch = [float(_interpolated(times, logs.sketch_error[None], grid).mean()) for times, logs in (cell, reference)]
    quantile = t_quantile(level, min(cell[1].orders, reference[1].orders) - 1)
    by_cell, by_reference = mine - theirs[0], mine[0] - theirs

    def half(of_cell: Array, of_reference: Array) -> float:
        errors = (float(jackknife_error(of_cell)), float(jackknife_error(of_reference)), *sketch)
        return quantile * float(np.sqrt(np.square(errors).sum()))

    log_ratio = float(by_cell[0].mean())
    wide = half(by_cell.mean(axis=1), by_reference.mean(axis=1))
    off = [np.abs(np.expm1(logs)).mean(axis=1) for logs in (by_cell, by_reference)]
    deviation, around = float(off[0][0]), half(*off)
    return Collapse(
        clock,
        quantity,
        float(low),
        float(high),
        Bounded(float(np.exp(log_ratio)), float(np.exp(log_ratio - wide)), float(np.exp(log_ratio + wide))),
        Bounded(deviation, max(0.0, deviation - around), deviation + around),
        float(np.abs(np.expm1(by_cell[0])).max()),
    )


def ratio_at(cell: Logs, reference: Logs, places: tuple[int, int], level: float = LEVEL) -> Bounded:
    """Returns cell / reference at one point of either, with its interval."""
    mine, theirs = places
    log_ratio = float(cell.value[mine] - reference.value[theirs])
    half = t_quantile(level, min(cell.orders, reference.orders) - 1) * float(np.hypot(cell.error()[mine], reference.error()[theirs]))
    return Bounded(float(np.exp(log_ratio)), float(np.exp(log_ratio - half)), float(np.exp(log_ratio + half)))


def _interpolated(times: Array, rows: Array, grid: Array) -> Array:
    return np.stack([np.interp(np.log(grid), np.log(times), row) for row in rows])
