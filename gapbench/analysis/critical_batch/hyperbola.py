"""Steps to a target against batch size: the hyperbola S = S_min (1 + B_crit / B), fitted in log space, the test of its shape, and no curve.

Source: McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162, section 2.4 and appendix D. The straight-line fits in circulation (1 / S
against 1 / E, or S against 1 / B) have errors in both axes or weigh the smallest batch too much; the fit of the logarithms has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapbench.analysis.stats import LEVEL, Array, Interval, interval_of_log, t_quantile
from gapbench.core.errors import GapbenchError

BRACKET = 4.0
"""A fit is bracketed by two batch sizes below the critical one by this factor, and by two above it."""
OVERHEAD = 0.2
"""Examples beyond the least at the critical batch size of Zhang et al. 2024; at that of McCandlish et al. they are 1."""
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
    """Standard deviation of the means of log S by batch size about the curve."""
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

    @property
    def overhead_batch(self) -> float:
        """The batch size at which a run takes 20 % more than the least examples, a fifth of B_crit.

        Zhang et al. 2024, arXiv:2410.21676, call this the critical batch size: a factor of 5 by definition alone.
        """
        return OVERHEAD * self.critical_batch.value

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


def fit_hyperbola(batch_sizes: Sequence[float], steps: Sequence[float], *, knee: bool = True) -> Hyperbola:
    """Fits the hyperbola by least squares of the logarithms, with t intervals of the logarithms of its parameters.

    Runs of one batch size share its learning rate and with it the error of choosing it, so they do not stray about the curve
    independently: the fit is of the means by batch size, and degrees of freedom count batch sizes.

    Args:
        batch_sizes: one a point, in examples (or tokens); several points may share one.
        steps: to the target, one a point.
        knee: whether the shape is tested, too, which takes at least five points.

    Raises:
        FitError: fewer than three batch sizes, values that are not positive, or steps that say nothing of where the curve bends.
    """
    sizes, logs = np.asarray(batch_sizes, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if sizes.shape != logs.shape or not (np.isfinite(sizes).all() and np.isfinite(logs).all() and (sizes > 0).all() and (logs > 0).all()):
        raise FitError("batch sizes and steps must be positive numbers, as many of the one as of the other")
    distinct = np.unique(sizes)
    if len(distinct) < 3:
        raise FitError(f"{len(distinct)} batch sizes reach the target; a hyperbola takes at least three, and five to test its shape")
    means = _means(sizes, np.log(logs))
    log_critical, variance, covariance = _fit(distinct, means)
    half = t_quantile(LEVEL, len(means) - 2) * np.sqrt(np.diag(covariance))
    offset = float((means - _curve(log_critical, distinct)).mean())
    return Hyperbola(
        critical_batch=interval_of_log(log_critical, float(half[1])),
        smallest_steps=interval_of_log(offset, float(half[0])),
        residual=float(np.sqrt(variance)),
        n=len(logs),
        batch_sizes=tuple(float(size) for size in distinct),
        knee=_knee(distinct, means, log_critical) if knee and len(distinct) >= 5 else None,
    )


def _means(sizes: Array, logs: Array) -> Array:
    """Returns the mean logarithm of each batch size, ascending."""
    return np.array([logs[sizes == size].mean() for size in np.unique(sizes)])


def _fit(sizes: Array, logs: Array) -> tuple[float, float, Array]:
    """Returns log B_crit, the variance about the curve and the covariance of (log S_min, log B_crit), for points that are independent.

    For a given B_crit the best S_min is a mean, so that one dimension is left to search: a grid finds the valley, Newton's steps its floor.
    """
    grid = np.linspace(np.log(sizes.min()) - 7.0, np.log(sizes.max()) + 7.0, 300)
    log_critical = float(grid[(logs - _curve(grid[:, None], sizes)).var(axis=1).argmin()])
    for _ in range(50):
        rest, share = _left(log_critical, sizes, logs)
        slope = share - share.mean()
        move = float(slope @ rest) / max(float(slope @ slope), 1e-300)
        log_critical += float(np.clip(move, -1.0, 1.0))
        if abs(move) < 1e-12:
            break
    rest, share = _left(log_critical, sizes, logs)
    jacobian = np.stack([np.ones_like(share), share], axis=1)
    variance = float(rest @ rest) / max(1, len(logs) - 2)
    try:
        return log_critical, variance, variance * np.linalg.inv(jacobian.T @ jacobian)
    except np.linalg.LinAlgError as error:
        raise FitError("all batch sizes lie far from where a hyperbola bends, so that its critical one is not determined") from error


def _left(log_critical: float, sizes: Array, logs: Array) -> tuple[Array, Array]:
    """Returns the residuals at the best S_min, and d log(1 + B_crit / B) / d log B_crit."""
    rest = logs - _curve(log_critical, sizes)
    return rest - rest.mean(), 1.0 / (1.0 + sizes / np.exp(log_critical))


def _curve(log_critical: Array | float, sizes: Array) -> Array:
    """Returns log(1 + B_crit / B)."""
    return np.asarray(np.log1p(np.exp(log_critical) / sizes))


def _knee(sizes: Array, logs: Array, start: float) -> Interval | None:
    """Returns the exponent of the generalized curve, or None where it has no end within SMALLEST .. LARGEST."""
    from scipy.optimize import least_squares

    def residuals(parameters: Array) -> Array:
        offset, log_critical, log_exponent = parameters
        exponent = np.exp(log_exponent)
        return np.asarray(offset + np.logaddexp(0.0, exponent * (log_critical - np.log(sizes))) / exponent - logs)

    bounds = ([-np.inf, -np.inf, np.log(SMALLEST)], [np.inf, np.inf, np.log(LARGEST)])
    offset = float((logs - _curve(start, sizes)).mean())
    fits: list[Any] = [least_squares(residuals, [offset, start, log_exponent], bounds=bounds) for log_exponent in (0.0, 0.5, -0.5)]
    best = min(fits, key=lambda fit: float(fit.cost))
    degrees = len(logs) - 3
    information = best.jac.T @ best.jac
    log_exponent = float(best.x[2])
    at_edge = not np.log(SMALLEST) + 1e-3 < log_exponent < np.log(LARGEST) - 1e-3
    if degrees < 1 or at_edge or np.linalg.cond(information) > 1e12:
        return None
    half = t_quantile(LEVEL, degrees) * float(np.sqrt(2.0 * best.cost / degrees * np.linalg.inv(information)[2, 2]))
    return interval_of_log(log_exponent, half) if half < np.log(LARGEST) else None


# The hyperbola with runs that never reached the target: they took longer than they trained, and that is all they say.


def critical_batch_with_censored(
    found: Hyperbola,
    batch_sizes: Sequence[float],
    steps: Sequence[float],
    censored_sizes: Sequence[float],
    censored_at: Sequence[float],
) -> Interval | None:
    """Returns B_crit by maximum likelihood: normal errors of log S, and for a censored run the chance of taking longer than it trained.

    The interval is from the curvature of the likelihood, widened by as much as the error of the fit of means exceeds that of a fit which
    takes the runs of one batch size as independent, and t with two degrees of freedom less than there are batch sizes.

    Args:
        found: the fit without censored runs, to start from.
        batch_sizes: of the runs that reached the target.
        steps: of the same.
        censored_sizes: batch sizes of the others.
        censored_at: updates that they made.

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
        rest = (logs - offset - _curve(log_critical, sizes)) / spread
        beyond = (offset + _curve(log_critical, more) - bounds) / spread
        return float(0.5 * rest @ rest + len(logs) * log_spread - log_ndtr(beyond).sum())

    start = np.log([found.smallest_steps.value, found.critical_batch.value, max(found.residual, 1e-3)])
    best = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 5000})
    hessian = _curvature(cost, best.x)
    if not best.success or not np.isfinite(hessian).all() or np.linalg.eigvalsh(hessian)[0] <= 0:
        return None
    distinct = np.unique(sizes)
    of_means, of_runs = (float(np.sqrt(_fit(*points)[2][1, 1])) for points in ((distinct, _means(sizes, logs)), (sizes, logs)))
    # The likelihood's spread divides by n; the fit of the runs that arrived divides by n - 2, and so does this.
    error = np.sqrt(np.linalg.inv(hessian)[1, 1] * len(logs) / max(1, len(logs) - 2)) * max(1.0, of_means / max(of_runs, 1e-300))
    return interval_of_log(float(best.x[1]), t_quantile(LEVEL, len(distinct) - 2) * float(error))


def _curvature(cost: Callable[[Array], float], at: Array, step: float = 1e-4) -> Array:
    """Returns the matrix of second differences."""
    units = np.eye(len(at)) * step

    def mixed(one: Array, other: Array) -> float:
        return cost(at + one + other) - cost(at + one - other) - cost(at - one + other) + cost(at - one - other)

    return np.array([[mixed(one, other) / (4 * step * step) for other in units] for one in units])


# What the steps say without a curve: read off between the measured batch sizes, on logarithmic axes.


def read_off(batch_sizes: Sequence[float], steps: Sequence[float], overhead: float) -> Interval | None:
    """Returns the batch size beyond the most frugal one at which examples are (1 + overhead) times its own.

    Examples are read between the means of log steps by batch size, linearly on logarithmic axes. The interval has the spread of the runs
    at a batch size alone, not the error of the rate that they share; its bounds are NaN from one run each.

    Args:
        batch_sizes: one a run, in examples.
        steps: to the target, one a run.
        overhead: 1 in the sense of McCandlish et al. 2018, 0.2 in that of Zhang et al. 2024.

    Returns:
        None where no larger batch size takes as many examples: the critical one lies beyond what was measured.
    """
    sizes, logs = np.asarray(batch_sizes, dtype=np.float64), np.log(np.asarray(steps, dtype=np.float64))
    distinct = np.unique(sizes)
    means = _means(sizes, logs)
    examples = np.log(distinct) + means
    least = int(examples.argmin())
    level = float(examples[least] + np.log1p(overhead))
    beyond = np.flatnonzero(examples[least:] >= level)
    if not len(beyond):
        return None
    after = least + int(beyond[0])
    before = after - 1
    rise, width = float(examples[after] - examples[before]), float(np.log(distinct[after] / distinct[before]))
    part = (level - float(examples[before])) / rise
    # Derivatives of log B by the means: of the level, and of the two ends of the segment.
    slopes = np.zeros(len(distinct))
    slopes[least] += width / rise
    slopes[before] -= (1.0 - part) * width / rise
    slopes[after] -= part * width / rise
    logarithm, degrees = float(np.log(distinct[before]) + part * width), len(logs) - len(distinct)
    if degrees < 1:
        return Interval(float(np.exp(logarithm)), float("nan"), float("nan"))
    counts = np.array([(sizes == size).sum() for size in distinct])
    variance = float(np.square(logs - means[np.searchsorted(distinct, sizes)]).sum()) / degrees
    half = t_quantile(LEVEL, degrees) * float(np.sqrt((np.square(slopes) / counts).sum() * variance))
    return interval_of_log(logarithm, half)


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
    """What the noise scale of one run, or of several at one batch size, says about the critical batch size of a target."""

    batch_size: float
    """That was trained at."""
    weighted: float
    """B_crit, the mean over noise-free progress."""
    naive: float
    """The mean over updates, for comparison."""
    smallest_steps: float
    """S_min: the progress itself, in noise-free updates."""
    runs: int = 1

    @property
    def smallest_examples(self) -> float:
        """E_min."""
        return self.weighted * self.smallest_steps

    @property
    def counts(self) -> bool:
        """Whether it was trained near enough to what is predicted."""
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


def by_batch_size(predictions: Sequence[Predicted]) -> list[Predicted]:
    """Returns the geometric means of the predictions of single runs at each batch size, ascending."""
    out = []
    for size in sorted({one.batch_size for one in predictions}):
        own = [one for one in predictions if one.batch_size == size]
        parts = [[getattr(one, name) for one in own] for name in ("weighted", "naive", "smallest_steps")]
        weighted, naive, smallest_steps = (float(np.exp(np.log(part).mean())) for part in parts)
        out.append(Predicted(size, weighted, naive, smallest_steps, len(own)))
    return out
