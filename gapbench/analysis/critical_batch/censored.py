"""The hyperbola with runs that never reached the target: they took longer than they trained, and that is all they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gapbench.analysis.critical_batch.hyperbola import Hyperbola, Interval
from gapbench.analysis.intervals import LEVEL, t_quantile

Array = npt.NDArray[np.float64]


def critical_batch_with_censored(
    found: Hyperbola,
    batch_sizes: Sequence[float],
    steps: Sequence[float],
    censored_sizes: Sequence[float],
    censored_at: Sequence[float],
    *,
    level: float = LEVEL,
) -> Interval | None:
    """Returns B_crit by maximum likelihood: normal errors of log S, and for a censored run the chance of taking longer than it trained.

    Args:
        found: the fit without censored runs, to start from.
        batch_sizes: of the runs that reached the target.
        steps: of the same.
        censored_sizes: batch sizes of the others.
        censored_at: updates that they made.
        level: coverage of the interval, from the curvature of the likelihood and t with n - 2 degrees of freedom.

    Returns:
        None where the likelihood has no summit.
    """
    from scipy.optimize import minimize
    from scipy.special import log_ndtr

    sizes, logs = np.asarray(batch_sizes, dtype=np.float64), np.log(np.asarray(steps, dtype=np.float64))
    more, bounds = np.asarray(censored_sizes, dtype=np.float64), np.log(np.asarray(censored_at, dtype=np.float64))

    def cost(parameters: Array) -> float:
        offset, log_critical, log_spread = parameters
        spread = np.exp(log_spread)
        rest = (logs - offset - np.log1p(np.exp(log_critical) / sizes)) / spread
        beyond = (offset + np.log1p(np.exp(log_critical) / more) - bounds) / spread
        return float(0.5 * rest @ rest + len(logs) * log_spread - log_ndtr(beyond).sum())

    start = np.log([found.smallest_steps.value, found.critical_batch.value, max(found.residual, 1e-3)])
    best = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 5000})
    hessian = _curvature(cost, best.x)
    if not best.success or not np.isfinite(hessian).all() or np.linalg.eigvalsh(hessian)[0] <= 0:
        return None
    # The likelihood's spread divides by n; the fit of the runs that arrived divides by n - 2, and so does this.
    error = np.sqrt(np.linalg.inv(hessian)[1, 1] * len(logs) / max(1, len(logs) - 2))
    half = t_quantile(level, len(logs) - 2) * float(error)
    low, value, high = (float(np.exp(best.x[1] + side * half)) for side in (-1, 0, 1))
    return Interval(value, low, high)


def _curvature(cost: object, at: Array, step: float = 1e-4) -> Array:
    """Returns the matrix of second differences."""
    assert callable(cost)
    count = len(at)
    units = np.eye(count) * step
    return np.array(
        [
            [
                (
                    cost(at + units[i] + units[j])
                    - cost(at + units[i] - units[j])
                    - cost(at - units[i] + units[j])
                    + cost(at - units[i] - units[j])
                )
                / (4 * step * step)
                for j in range(count)
            ]
            for i in range(count)
        ]
    )
