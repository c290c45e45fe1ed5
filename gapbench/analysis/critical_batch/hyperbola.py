"""Steps to a target against batch size: the hyperbola S = S_min (1 + B_crit / B), fitted in log space, and the test of its shape.

Source: McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162, section 2.4 and appendix D. The straight-line fits in circulation (1 / S
against 1 / E, or S against 1 / B) have errors in both axes or weigh the smallest batch too much; the fit of the logarithms has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.stats import LEVEL, Interval, interval_of_log, t_quantile
from gapbench.core.errors import GapbenchError

Array = npt.NDArray[np.float64]

BRACKET = 4.0
"""A fit is bracketed by two batch sizes below the critical one by this factor, and by two above it."""
SMALLEST, LARGEST = 0.2, 10.0
"""Exponents of the knee that are told apart; beyond them the curve is a power law, or a corner."""


class FitError(GapbenchError):
    """Points that no hyperbola can be fitted to."""


@dataclass(frozen=True, eq=False)
class Hyperbola:
    """A fit of S = S_min (1 + B_crit / B)."""

    critical_batch: Interval
    """B_crit in examples: where a run takes twice the examples, and twice the steps, of what it could do with at least."""
    smallest_steps: Interval
    """S_min: steps to the target however large the batch."""
    residual: float
    """Standard deviation of log S about the curve."""
    n: int
    """Points."""
    batch_sizes: tuple[float, ...]
    """Distinct ones, ascending."""
    knee: Interval | None = None
    """Exponent a of S = S_min (1 + (B_crit / B)^a)^(1/a): 1 is the hyperbola, more a sharper knee.
    None: too few points, or an interval that says nothing."""

    @property
    def smallest_examples(self) -> float:
        """E_min: examples to the target however small the batch."""
        return self.smallest_steps.value * self.critical_batch.value

    def overhead_batch(self, overhead: float) -> float:
        """Returns the batch size at which a run takes 1 + `overhead` times the least examples: B_crit at 1, B_crit / 5 at 0.2.

        0.2 is what Zhang et al. 2024, arXiv:2410.21676, call the critical batch size: a factor of 5 by definition alone.
        """
        return overhead * self.critical_batch.value

    @property
    def below(self) -> int:
        """Batch sizes below B_crit / BRACKET."""
        return sum(size <= self.critical_batch.value / BRACKET for size in self.batch_sizes)

    @property
    def above(self) -> int:
        """Batch sizes above BRACKET times B_crit."""
        return sum(size >= self.critical_batch.value * BRACKET for size in self.batch_sizes)

    @property
    def extrapolated(self) -> bool:
        """Whether the batch sizes do not bracket B_crit by two points on either side: it then lies beyond what was measured."""
        return min(self.below, self.above) < 2

    @property
    def rejected(self) -> bool:
        """Whether the interval of the knee's exponent leaves out 1."""
        return self.knee is not None and not self.knee.low <= 1.0 <= self.knee.high

    def steps(self, batch_sizes: Array) -> Array:
        """Returns the steps of the fit."""
        return self.smallest_steps.value * (1.0 + self.critical_batch.value / batch_sizes)


def fit_hyperbola(batch_sizes: Sequence[float], steps: Sequence[float], *, level: float = LEVEL, knee: bool = True) -> Hyperbola:
    """Fits the hyperbola by least squares of the logarithms, with t intervals of the logarithms of its parameters.

    Args:
        batch_sizes: one a point, in examples (or tokens); several points may share one.
        steps: to the target, one a point.
        level: coverage of the intervals.
        knee: whether the shape is tested, too, which takes at least five points.

    Raises:
        FitError: fewer than three batch sizes, or values that are not positive.
    """
    sizes, logs = np.asarray(batch_sizes, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if sizes.shape != logs.shape or not (np.isfinite(sizes).all() and np.isfinite(logs).all() and (sizes > 0).all() and (logs > 0).all()):
        raise FitError("batch sizes and steps must be positive numbers, as many of the one as of the other")
    distinct = np.unique(sizes)
    if len(distinct) < 3:
        raise FitError(f"{len(distinct)} batch sizes reach the target; a hyperbola takes at least three, and five to test its shape")
    logs = np.log(logs)
    log_critical, residuals, jacobian = _fit(sizes, logs)
    degrees = len(logs) - 2
    variance = float(residuals @ residuals) / degrees
    covariance = variance * np.linalg.inv(jacobian.T @ jacobian)
    half = t_quantile(level, degrees) * np.sqrt(np.diag(covariance))
    offset = float((logs - np.log1p(np.exp(log_critical) / sizes)).mean())
    return Hyperbola(
        critical_batch=interval_of_log(log_critical, float(half[1])),
        smallest_steps=interval_of_log(offset, float(half[0])),
        residual=float(np.sqrt(variance)),
        n=len(logs),
        batch_sizes=tuple(float(size) for size in distinct),
        knee=_knee(sizes, logs, log_critical, level) if knee and len(distinct) >= 5 else None,
    )


def _fit(sizes: Array, logs: Array) -> tuple[float, Array, Array]:
    """Returns log B_crit, residuals and the Jacobian by (log S_min, log B_crit).

    For a given B_crit the best S_min is a mean, so that one dimension is left to search: a grid finds the valley, Newton's steps its floor.
    """
    grid = np.linspace(np.log(sizes.min()) - 7.0, np.log(sizes.max()) + 7.0, 300)
    curves = np.log1p(np.exp(grid[:, None]) / sizes)
    rest = logs - curves
    costs = rest.var(axis=1)
    log_critical = float(grid[costs.argmin()])
    for _ in range(50):
        share = 1.0 / (1.0 + sizes / np.exp(log_critical))  # d log(1 + B_crit / B) / d log B_crit
        rest = logs - np.log1p(np.exp(log_critical) / sizes)
        rest -= rest.mean()
        slope = share - share.mean()
        move = float(slope @ rest) / max(float(slope @ slope), 1e-300)
        log_critical += float(np.clip(move, -1.0, 1.0))
        if abs(move) < 1e-12:
            break
    share = 1.0 / (1.0 + sizes / np.exp(log_critical))
    rest = logs - np.log1p(np.exp(log_critical) / sizes)
    return log_critical, rest - rest.mean(), np.stack([np.ones_like(share), share], axis=1)


def _knee(sizes: Array, logs: Array, start: float, level: float) -> Interval | None:
    """Returns the exponent of the generalized curve, or None where it has no end within SMALLEST .. LARGEST."""
    from scipy.optimize import least_squares

    def residuals(parameters: Array) -> Array:
        offset, log_critical, log_exponent = parameters
        exponent = np.exp(log_exponent)
        return np.asarray(offset + np.logaddexp(0.0, exponent * (log_critical - np.log(sizes))) / exponent - logs)

    bounds = ([-np.inf, -np.inf, np.log(SMALLEST)], [np.inf, np.inf, np.log(LARGEST)])
    best: Any = None
    for log_exponent in (0.0, 0.5, -0.5):
        offset = float((logs - np.log1p(np.exp(start) / sizes)).mean())
        found = least_squares(residuals, [offset, start, log_exponent], bounds=bounds)
        best = found if best is None or found.cost < best.cost else best
    degrees = len(logs) - 3
    information = best.jac.T @ best.jac
    log_exponent = float(best.x[2])
    at_edge = not np.log(SMALLEST) + 1e-3 < log_exponent < np.log(LARGEST) - 1e-3
    if degrees < 1 or at_edge or np.linalg.cond(information) > 1e12:
        return None
    half = t_quantile(level, degrees) * float(np.sqrt(2.0 * best.cost / degrees * np.linalg.inv(information)[2, 2]))
    return interval_of_log(log_exponent, half) if half < np.log(LARGEST) else None


# The hyperbola with runs that never reached the target: they took longer than they trained, and that is all they say.


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
    return interval_of_log(float(best.x[1]), t_quantile(level, len(logs) - 2) * float(error))


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


# The critical batch size that one run's noise scale predicts.
#
# At batch size B a unit of noise-free progress takes 1 + B_noise / B updates, so that an update counts 1 / (1 + B_noise / B) of one
# (McCandlish et al. 2018, appendix D.1). The mean of the noise scale over progress is the prediction; its mean over updates, which is often
# shown instead, counts the noisy end of training too much. The weights are right only if the learning rate is the best one for B at every
# update: on a noisy quadratic with the best constant rate for each B the prediction is 2.5 to 36 times too large. So it is given for every
# batch size that it was measured at, and counts only where that is within a factor of 4 of the prediction.

NEAR = 4.0
"""A prediction counts where the batch size that it was measured at is within this factor of it."""


@dataclass(frozen=True)
class Predicted:
    """What the noise scale of one run says about the critical batch size of a target."""

    batch_size: float
    """That the run trained at."""
    weighted: float
    """B_crit, the mean over noise-free progress."""
    naive: float
    """The mean over updates, for comparison."""
    smallest_steps: float
    """S_min: the progress itself, in noise-free updates."""

    @property
    def smallest_examples(self) -> float:
        """E_min."""
        return self.weighted * self.smallest_steps

    @property
    def counts(self) -> bool:
        """Whether the run trained near enough to what it predicts."""
        return self.weighted / NEAR <= self.batch_size <= self.weighted * NEAR


def predict(updates: Array, noise_scale: Array, batch_size: float, last: float) -> Predicted:
    """Returns the prediction from a noise curve, up to the update at which the target is reached.

    Args:
        updates: at which the noise scale is known, ascending, in updates.
        noise_scale: there, in examples, positive.
        batch_size: of the run, in examples.
        last: update at which the target is reached; before the first known value and after the last one, the nearest holds.
    """
    steps = np.arange(0.5, max(1.0, np.floor(last)))
    noise = np.exp(np.interp(np.log(steps), np.log(np.maximum(updates, 0.5)), np.log(noise_scale)))
    weights = 1.0 / (1.0 + noise / batch_size)
    return Predicted(batch_size, float((weights * noise).sum() / weights.sum()), float(noise.mean()), float(weights.sum()))


def by_batch_size(predictions: Sequence[Predicted]) -> list[tuple[float, float, float]]:
    """Returns batch size, and geometric means of the weighted and the naive prediction of its runs, by ascending batch size."""
    sizes: dict[float, list[Predicted]] = {}
    for one in predictions:
        sizes.setdefault(one.batch_size, []).append(one)
    return [(size, _mean([one.weighted for one in own]), _mean([one.naive for one in own])) for size, own in sorted(sizes.items())]


def _mean(values: Sequence[float]) -> float:
    return float(np.exp(np.log(values).mean()))
