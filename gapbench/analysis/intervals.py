"""Student t intervals over seeds: for a mean, and for one new run.

With 3 to 10 seeds the bootstrap is far too narrow, so nothing here resamples. One seed has a mean and never an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
"""Coverage of every interval in tables and figures."""

Values = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds (or splits), with the t interval of that mean where there are at least two."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Number of values the interval rests on."""

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, in the unit of the mean; None from one value."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_quantile(level: float, degrees: float) -> float:
    """Returns t with P(|T| <= t) = `level` for Student's T with `degrees` (> 0, not necessarily whole) degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def two_sided_p(t: float, degrees: float) -> float:
    """Returns P(|T| >= |t|) for Student's T with `degrees` degrees of freedom."""
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(t)))


def t_interval(values: Values, level: float = LEVEL) -> Estimate | None:
    """Returns mean and interval mean ± t s / sqrt(n); None of no values, a mean without interval of one.

    Args:
        values: one finite number per seed; their unit is the unit of the result.
        level: coverage, between 0 and 1.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n == 0:
        return None
    mean = float(sample.mean())
    if n == 1:
        return Estimate(mean, None, None, 1)
    half = t_quantile(level, n - 1) * float(sample.std(ddof=1)) / np.sqrt(n)
    return Estimate(mean, float(mean - half), float(mean + half), n)


def prediction_interval(values: Values, level: float = LEVEL) -> tuple[float, float] | None:
    """Returns where one new run like these falls with probability `level`: mean ± t s sqrt(1 + 1/n); None below two values.

    A published single run is held against this and not against the interval of the mean, which an identical new run leaves
    with probability 32 % at n = 5.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2:
        return None
    half = t_quantile(level, n - 1) * float(sample.std(ddof=1)) * np.sqrt(1 + 1 / n)
    return float(sample.mean() - half), float(sample.mean() + half)
