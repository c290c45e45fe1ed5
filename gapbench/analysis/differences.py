"""Differences between two cells: Welch where all seeds share one split, paired where each seed draws its own; Holm; shares.

At a fixed split the same seed in two arms shares next to nothing (correlation about -0.05), so pairing would only cost degrees of
freedom; where the seed draws the split, the correlation is about +0.6 and pairing pays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gapbench.analysis.intervals import LEVEL, t_quantile, two_sided_p

Method = Literal["welch", "paired"]
Sample = Mapping[int, float]
"""Values by what they are paired on: the split's seed where seeds draw a split, else any key of the run."""


@dataclass(frozen=True)
class Difference:
    """Mean of a first cell minus mean of a second one. Without interval and p-value where either has fewer than two values."""

    estimate: float
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, for a true difference of zero. None also where no value differs from another, so that there is no scale to judge by."""
    method: Method
    n: int
    """Pairs, or the size of the smaller cell."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of two differences with Fieller's interval (None where it is unbounded or there are too few values)."""

    estimate: float
    low: float | None
    high: float | None


def difference(first: Sample, second: Sample, *, paired: bool, level: float = LEVEL) -> Difference | None:
    """Returns the difference of two cells' means, paired by key or Welch's; None where a cell is empty or no key is shared.

    Args:
        first: values of the first cell; their unit is the unit of the result.
        second: values of the second cell.
        paired: whether equal keys share something (the split).
        level: coverage of the interval.
    """
    if paired:
        keys = sorted(set(first) & set(second))
        return _paired(_array(first[key] for key in keys) - _array(second[key] for key in keys), level) if keys else None
    return _welch(_array(first.values()), _array(second.values()), level) if first and second else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p-values, in the given order: those at or below 0.05 are separated with familywise error 5 %.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for rank, position in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[position])
        adjusted[position] = min(1.0, running)
    return adjusted


def share_closed(arm: Sample, baseline: Sample, reference: Sample, *, paired: bool, level: float = LEVEL) -> Ratio | None:
    """Returns the share of the gap reference - baseline that an arm closes: (arm - baseline) / (reference - baseline), 1 = all of it.

    The interval is Fieller's, which keeps the baseline's own uncertainty in both numerator and denominator. None where a cell is empty
    or baseline and reference are equal.
    """
    if paired:
        keys = sorted(set(arm) & set(baseline) & set(reference))
        base = _array(baseline[key] for key in keys)
        closed = _array(arm[key] for key in keys) - base
        gap = _array(reference[key] for key in keys) - base
        n = len(keys)
        if n == 0 or gap.mean() == 0:
            return None
        if n == 1:
            return Ratio(float(closed[0] / gap[0]), None, None)
        covariance = np.cov(closed, gap) / n
        return _fieller(float(closed.mean()), float(gap.mean()), covariance, n - 1, level)
    cells = [_array(cell.values()) for cell in (arm, baseline, reference)]
    if not all(len(cell) for cell in cells):
        return None
    top, base_mean, reference_mean = (float(cell.mean()) for cell in cells)
    closed_mean, gap_mean = top - base_mean, reference_mean - base_mean
    if gap_mean == 0:
        return None
    if min(len(cell) for cell in cells) < 2:
        return Ratio(closed_mean / gap_mean, None, None)
    var_arm, var_base, var_reference = (float(cell.var(ddof=1)) / len(cell) for cell in cells)
    covariance = np.array([[var_arm + var_base, var_base], [var_base, var_base + var_reference]])
    degrees = _welch_degrees(var_reference, len(cells[2]), var_base, len(cells[1]))
    return _fieller(closed_mean, gap_mean, covariance, degrees, level)


def _array(values: Iterable[float]) -> npt.NDArray[np.float64]:
    return np.array(list(values), dtype=np.float64)


def _paired(differences: npt.NDArray[np.float64], level: float) -> Difference:
    n = len(differences)
    mean = float(differences.mean())
    if n < 2:
        return Difference(mean, None, None, None, "paired", n)
    return _judged(mean, float(differences.std(ddof=1)) / np.sqrt(n), n - 1, "paired", n, level)


def _welch(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], level: float) -> Difference:
    n = min(len(first), len(second))
    mean = float(first.mean() - second.mean())
    if n < 2:
        return Difference(mean, None, None, None, "welch", n)
    var_first, var_second = float(first.var(ddof=1)) / len(first), float(second.var(ddof=1)) / len(second)
    degrees = _welch_degrees(var_first, len(first), var_second, len(second))
    return _judged(mean, np.sqrt(var_first + var_second), degrees, "welch", n, level)


def _judged(mean: float, error: float, degrees: float, method: Method, n: int, level: float) -> Difference:
    if error == 0:
        return Difference(mean, mean, mean, None, method, n)
    half = t_quantile(level, degrees) * error
    return Difference(mean, float(mean - half), float(mean + half), two_sided_p(mean / error, degrees), method, n)


def _welch_degrees(var_first: float, n_first: int, var_second: float, n_second: int) -> float:
    """Welch-Satterthwaite, from the variances of the two means."""
    spread = var_first**2 / (n_first - 1) + var_second**2 / (n_second - 1)
    return (var_first + var_second) ** 2 / spread if spread > 0 else float(n_first + n_second - 2)


def _fieller(top: float, bottom: float, covariance: npt.NDArray[np.float64], degrees: float, level: float) -> Ratio:
    """Solves (top - r bottom)^2 <= t^2 var(top - r bottom) for r; the set is an interval only where bottom differs from zero."""
    t2 = t_quantile(level, degrees) ** 2
    a = bottom**2 - t2 * covariance[1, 1]
    b = top * bottom - t2 * covariance[0, 1]
    c = top**2 - t2 * covariance[0, 0]
    discriminant = b**2 - a * c
    if a <= 0 or discriminant < 0:
        return Ratio(top / bottom, None, None)
    return Ratio(top / bottom, float((b - np.sqrt(discriminant)) / a), float((b + np.sqrt(discriminant)) / a))
