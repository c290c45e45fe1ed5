"""Statistics over seeds: Student intervals, differences by Welch or paired, Holm, shares, and what a table of a size can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

# Student t intervals over seeds: for a mean, and for one new run.
#
# With 3 to 10 seeds the bootstrap is far too narrow, so nothing here resamples. One seed has a mean and never an interval.

LEVEL = 0.95
"""Coverage of every interval in tables and figures."""

Array = npt.NDArray[np.float64]
Numbers = Sequence[float] | Array


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


def t_interval(values: Numbers) -> Estimate | None:
    """Returns mean and interval mean ± t s / sqrt(n); None of no values, a mean without interval of one.

    Args:
        values: one finite number per seed; their unit is the unit of the result.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2:
        return Estimate(float(sample[0]), None, None, 1) if n else None
    mean, half = float(sample.mean()), t_quantile(LEVEL, n - 1) * float(sample.std(ddof=1)) / np.sqrt(n)
    return Estimate(mean, float(mean - half), float(mean + half), n)


def crossed_interval(values: Array) -> Estimate:
    """Returns the mean of values that are crossed, each row sharing one thing and each column another, with its interval over both.

    The squared error is the sum of the variance of the mean over rows and of that over columns. What belongs to a row and a column
    together is in both, so that the interval is too wide by up to a factor sqrt 2 where nothing else varies, and never too narrow.
    Degrees of freedom are Satterthwaite's.

    Args:
        values: [rows, columns], not empty, such as one row a seed and one column a fold; a single row or column is Student's interval
            over the other, and a single value has none.
    """
    rows, columns = values.shape
    means = [along for along in (values.mean(axis=1), values.mean(axis=0)) if len(along) > 1]
    n = rows * columns
    if not means:
        return Estimate(float(values.mean()), None, None, n)
    variances = [np.asarray(along.var(ddof=1) / len(along)) for along in means]
    error = float(np.sqrt(sum(variances)))
    half = t_quantile(LEVEL, float(satterthwaite(variances, [len(along) for along in means]))) * error
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, n)


def prediction_interval(values: Numbers) -> tuple[float, float] | None:
    """Returns where one new run like these falls with probability 95 %: mean ± t s sqrt(1 + 1/n); None below two values.

    A published single run is held against this and not against the interval of the mean, which an identical new run leaves
    with probability 32 % at n = 5.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2:
        return None
    half = t_quantile(LEVEL, n - 1) * float(sample.std(ddof=1)) * np.sqrt(1 + 1 / n)
    return float(sample.mean() - half), float(sample.mean() + half)


# Differences between two cells: Welch where all seeds share one split, paired where each seed draws its own; Holm; shares.
#
# At a fixed split the same seed in two arms shares next to nothing (correlation about -0.05), so pairing would only cost degrees of
# freedom; where the seed draws the split, the correlation is about +0.6 and pairing pays.

Method = Literal["welch", "paired"]
_METHODS: tuple[Method, Method] = ("welch", "paired")
_ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""Of the size of its terms: what rounding may leave of a sum that is zero."""
SIGNIFICANCE = 0.05
"""Familywise error of verdicts that are judged together."""
NOT_SEPARATED = "not separated"
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
    error: float | None = None
    """Standard error of the estimate; None from one value."""
    degrees: float | None = None
    """Degrees of freedom of that error: n - 1, or Welch-Satterthwaite's."""
    variances: tuple[float, ...] = ()
    """What the squared error is the sum of: the variance of the mean of pairs, or of both means."""
    sizes: tuple[int, ...] = ()
    """Number of values behind each of `variances`."""


@dataclass(frozen=True)
class Ratio:
    """A ratio with its interval, Fieller's where it is of two differences (None where it is unbounded or there are too few values)."""

    estimate: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; bounds are NaN where there is none."""

    value: float
    low: float
    high: float


def interval_of_log(logarithm: float, half: float) -> Interval:
    """Returns the interval of a positive number, symmetric in the logarithm, which is given with half its width."""
    low, value, high = (float(np.exp(min(logarithm + side * half, 700.0))) for side in (-1, 0, 1))
    return Interval(value, low, high)


def bounds(name: str, found: Estimate | Difference | Ratio | Interval | None) -> dict[str, float | None]:
    """Returns a number and its bounds as the columns `name`, `name_low`, `name_high`; None where there is none."""
    if found is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    value = found.mean if isinstance(found, Estimate) else found.value if isinstance(found, Interval) else found.estimate
    return {name: value, f"{name}_low": found.low, f"{name}_high": found.high}


@dataclass(frozen=True)
class Contrast:
    """Weighted sums of means with their errors, of any number of draws at once."""

    estimate: Array
    error: Array
    """Standard error of the estimate."""
    degrees: Array
    """Degrees of freedom of the error."""
    variances: tuple[Array, ...]
    """What the squared error is the sum of: of one sum for each split, or of each cell's mean times its weight."""
    sizes: tuple[int, ...]
    """Number of values behind each of `variances`."""


def contrast(samples: Sequence[Array], weights: Numbers, *, paired: bool) -> Contrast:
    """Returns the weighted sum of means along the last axis with its error: Student's over splits, or Welch and Satterthwaite's.

    Args:
        samples: of each cell [..., n >= 2]; where paired all of one n, equal positions sharing a split.
        weights: as many, such as (1, -1) for a difference and (1, -1, -1, 1) for a difference of differences.
        paired: which of the two errors.
    """
    estimate = np.asarray(sum(weight * sample.mean(axis=-1) for weight, sample in zip(weights, samples, strict=True)))
    if not paired:
        sizes = [sample.shape[-1] for sample in samples]
        variances = [weight**2 * sample.var(axis=-1, ddof=1) / sample.shape[-1] for weight, sample in zip(weights, samples, strict=True)]
        return Contrast(estimate, np.sqrt(sum(variances)), satterthwaite(variances, sizes), tuple(variances), tuple(sizes))
    # Two cells are subtracted and then averaged, more are averaged first: each order keeps the last digit of the tables made by it.
    if len(samples) == 2:
        own = weights[0] * samples[0] + weights[1] * samples[1]
        estimate = own.mean(axis=-1)
    else:
        own = np.tensordot(weights, np.stack(samples), axes=1)
    n = own.shape[-1]
    error = own.std(axis=-1, ddof=1) / np.sqrt(n)
    return Contrast(estimate, error, np.full(error.shape, float(n - 1)), (own.var(axis=-1, ddof=1) / n,), (n,))


def without_rounding(found: Contrast, samples: Sequence[Array], weights: Numbers) -> Contrast:
    """Returns a contrast of these samples in which what is not above rounding is zero.

    Else cells that differ by the same 0.1 pp in every pair would have an error of 1e-15 pp.
    """
    limit = rounding(samples, weights)
    return replace(found, estimate=beyond_rounding(found.estimate, limit), error=beyond_rounding(found.error, limit))


def rounding(samples: Sequence[Array], weights: Numbers) -> Array:
    """Returns how far from zero rounding alone may leave a weighted sum of samples that is zero.

    Args:
        samples: the terms [..., n], each with an n of its own.
        weights: as many.
    """
    sizes = [abs(weight) * np.abs(sample).max(axis=-1) for weight, sample in zip(weights, samples, strict=True)]
    return np.asarray(_ROUNDING * sum(sizes), dtype=np.float64)


def beyond_rounding(value: Array | float, limit: Array) -> Array:
    """Returns a value, or zero where it is not above what rounding may leave."""
    return np.where(np.abs(value) > limit, value, 0.0)


def satterthwaite(variances: Sequence[Array], sizes: Sequence[int]) -> Array:
    """Returns the degrees of freedom of the sum of independent variances of means (Welch 1947); all where every one is zero.

    Args:
        variances: of the terms, s^2 / n times the square of the term's coefficient.
        sizes: n of each term, >= 2.
    """
    total = np.asarray(sum(variances), dtype=np.float64)
    spread = np.asarray(sum(v**2 / (n - 1) for v, n in zip(variances, sizes, strict=True)), dtype=np.float64)
    everything = float(sum(sizes) - len(sizes))
    degrees: Array = np.where(spread > 0, total**2 / np.where(spread > 0, spread, 1.0), everything)
    return degrees


def difference(first: Sample, second: Sample, *, paired: bool) -> Difference | None:
    """Returns the difference of two cells' means, paired by key or Welch's; None where a cell is empty or no key is shared.

    Args:
        first: values of the first cell; their unit is the unit of the result.
        second: values of the second cell.
        paired: whether equal keys share something (the split).
    """
    return combination((first, second), (1.0, -1.0), paired=paired)


def combination(samples: Sequence[Sample], weights: Numbers, *, paired: bool) -> Difference | None:
    """Returns the weighted sum of several cells' means with its interval. Arguments as of `difference`, weights as of `contrast`.

    Returns:
        None where a cell is empty, or no key is shared; without an interval from one value.
    """
    values, method = _values(samples, paired=paired), _METHODS[paired]
    n = min(map(len, values))
    if n == 0:
        return None
    if n == 1:
        estimate = sum(weight * own.mean() for weight, own in zip(weights, values, strict=True))
        return Difference(float(beyond_rounding(estimate, rounding(values, weights))), None, None, None, method, n)
    found = without_rounding(contrast(values, weights, paired=paired), values, weights)
    mean, error, degrees = float(found.estimate), float(found.error), float(found.degrees)
    half = t_quantile(LEVEL, degrees) * error
    p_value = two_sided_p(mean / error, degrees) if error > 0 else None
    return Difference(mean, mean - half, mean + half, p_value, method, n, error, degrees, tuple(map(float, found.variances)), found.sizes)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns Holm's adjusted p-values, in the given order: those at or below 0.05 are separated with familywise error 5 %.

    None stands for what is not judged, and stays None.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    judged = sorted((p_value, position) for position, p_value in enumerate(p_values) if p_value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p_value, position) in enumerate(judged):
        running = max(running, (len(judged) - rank) * p_value)
        adjusted[position] = min(1.0, running)
    return adjusted


def is_separated(p_holm: float | None) -> bool:
    """Whether what has this adjusted p-value is separated, all comparisons of its family judged together."""
    return p_holm is not None and p_holm <= SIGNIFICANCE


def verdict_on(estimate: float, p_holm: float | None, *, above: str, below: str) -> str:
    """Returns the words for a difference: `above` or `below`, or that it is not separated from zero."""
    if not is_separated(p_holm):
        return NOT_SEPARATED
    return above if estimate > 0 else below


def unjudged(gap: Difference | None) -> str:
    """Returns why a difference gets no verdict, or an empty text."""
    if gap is None:
        return "no seed in common"
    if gap.low is None:
        return "one seed"
    return "" if gap.p_value is not None else "no spread between seeds"


def judge(gaps: Sequence[tuple[Difference | None, str, str, str]]) -> list[tuple[float | None, str]]:
    """Returns the adjusted p-value and the verdict of every difference of a table, which are judged together by Holm's procedure.

    Args:
        gaps: each with the reason why it gets no verdict (or an empty text), and what it is called above and below zero.
    """
    adjusted = holm([gap.p_value if gap and not reason else None for gap, reason, _, _ in gaps])
    return [
        (p_holm, f"no verdict ({reason})" if gap is None or p_holm is None else verdict_on(gap.estimate, p_holm, above=above, below=below))
        for (gap, reason, above, below), p_holm in zip(gaps, adjusted, strict=True)
    ]


def share_closed(arm: Sample, baseline: Sample, reference: Sample, *, paired: bool) -> Ratio | None:
    """Returns the share of the gap reference - baseline that an arm closes: (arm - baseline) / (reference - baseline), 1 = all of it.

    The interval is Fieller's (1954): the shares r that a t test of arm - baseline = r (reference - baseline) does not reject. So the
    baseline, which stands in numerator and denominator, is counted once, and where seeds share a split, so is the split. At a fixed
    split that test is Welch's, whose degrees of freedom depend on r: an arm with a spread of its own decides them where it decides the
    error. None where a cell is empty or baseline and reference are equal.
    """
    cells = _values((arm, baseline, reference), paired=paired)
    n = min(map(len, cells))
    if n == 0 or cells[2].mean() == cells[1].mean():
        return None
    closed, gap = float(cells[0].mean() - cells[1].mean()), float(cells[2].mean() - cells[1].mean())
    if n == 1:
        return Ratio(closed / gap, None, None)
    return Ratio(closed / gap, *_share_bounds(*cells, paired=paired))


def share_contrast(arm: Array, baseline: Array, reference: Array, share: float, *, paired: bool) -> Contrast:
    """Returns (arm - baseline) - share (reference - baseline) along the last axis, which is zero where the share is the true one."""
    if paired:
        sides, weights = (arm - baseline, reference - baseline), (1.0, -share)
        return without_rounding(contrast(sides, weights, paired=True), sides, weights)
    return contrast((arm, baseline, reference), (1.0, share - 1, -share), paired=False)


def _share_bounds(arm: Array, baseline: Array, reference: Array, *, paired: bool) -> tuple[float | None, float | None]:
    """Returns the bounds of the shares that are not rejected; None, None where they are unbounded: where the gap itself may be zero."""
    from scipy.optimize import brentq

    ends, weights = (reference, baseline), (1.0, -1.0)
    whole = without_rounding(contrast(ends, weights, paired=paired), ends, weights)
    if abs(whole.estimate) <= t_quantile(LEVEL, float(whole.degrees)) * whole.error * (1 + 1e-9):
        return None, None
    share = float((arm.mean() - baseline.mean()) / whole.estimate)

    def beyond(ratio: float) -> float:
        found = share_contrast(arm, baseline, reference, ratio, paired=paired)
        return float(abs(found.estimate) - t_quantile(LEVEL, float(found.degrees)) * found.error)

    bounds = []
    for side in (-1, 1):
        step = max(1e-9, float(share_contrast(arm, baseline, reference, share, paired=paired).error / abs(whole.estimate)))
        while beyond(share + side * step) < 0:  # ends, because far out the gap alone decides, and it is separated
            step *= 2
        bounds.append(float(brentq(beyond, share, share + side * step, xtol=1e-12)) if beyond(share) < 0 else share)
    return bounds[0], bounds[1]


def _values(samples: Sequence[Sample], *, paired: bool) -> list[Array]:
    """Returns the values of samples; where paired those of the keys that all have, in one order."""
    keys = sorted(set.intersection(*(set(sample) for sample in samples)))
    return [np.array([sample[key] for key in keys] if paired else [*sample.values()], dtype=np.float64) for sample in samples]


def fieller(numerator: float, denominator: float, covariance: Array, t: float) -> tuple[float | None, float | None]:
    """Returns the bounds of the positive ratios r for which numerator - r denominator is not separated from 0 at `t` standard errors.

    Args:
        numerator: estimate, whose true value is not negative.
        denominator: estimate.
        covariance: of the two [2, 2].
        t: quantile of the interval.
    """
    a = denominator**2 - t**2 * covariance[1, 1]
    b = numerator * denominator - t**2 * covariance[0, 1]
    c = numerator**2 - t**2 * covariance[0, 0]
    if c <= 0.0:  # the numerator itself is not separated from 0: every small ratio is possible
        return 0.0, None
    if a > 0.0 and denominator > 0.0:
        root = np.sqrt(max(0.0, b**2 - a * c))
        return float(c / (b + root)), float((b + root) / a)
    # What is rejected is an interval around 0; all that lies beyond its upper end is possible.
    root = np.sqrt(b**2 - a * c)
    return float(c / (b + root)), None


# What a table of this size can see: the chance that it separates a given gap, and the smallest gap that it separates with 80 %.
#
# So "not separated" can be read: from a table that sees 1 pp with 95 % it means a small gap, from one that sees it with 20 % it means
# too few seeds. The gap asked for is fixed beforehand; the power at the gap that was measured would only say the p-value again.
#
# The measured spreads stand for the true ones. A gap delta is separated, with the right sign, where the estimate exceeds
# t(1 - alpha / (2 m)) times its estimated error. Of pairs, estimate over error is noncentral t with noncentrality delta / error. Welch's is
# not, since its degrees of freedom are estimated too, and at three seeds a noncentral t would promise up to 1.6 times the chance; there the
# chance is the normal one averaged over the distributions of both sample variances. m is the number of comparisons of the table: that is
# the first and hardest step of Holm's procedure, so the chances given here are rather too low than too high.

CHANCE = 0.8
"""The chance with which the smallest gap told is seen."""

NODES = 48
"""Of the quadrature over a sample variance, over equal probabilities."""


@dataclass(frozen=True)
class Power:
    """What a comparison of two cells can see, judged at 5 % together with the others of its table."""

    chance: float | None
    """That the true gap asked for would have been separated, with the right sign; None where none was asked for."""
    smallest_gap: float
    """The true gap that would have been separated with probability CHANCE, in the unit of the difference."""
    comparisons: int
    """Number of comparisons that the significance is shared by."""


def power(gap: Difference | None, comparisons: int = 1, *, asked: float | None) -> Power | None:
    """Returns what a comparison with these spreads and sizes can see; None from one seed and without any spread.

    Args:
        gap: a difference; its estimate does not count.
        comparisons: size of Holm's family, >= 1.
        asked: the true gap whose chance is told, in the unit of the difference; None: of none.
    """
    from scipy.optimize import brentq

    if gap is None or not gap.error:
        return None
    chance = _paired(gap, comparisons) if len(gap.sizes) == 1 else _welch(gap, comparisons)
    high = gap.error
    while chance(high) < CHANCE:
        high *= 2
    smallest = float(brentq(lambda found: chance(found) - CHANCE, 0.0, high, xtol=1e-9 * high))
    return Power(None if asked is None else chance(asked), smallest, comparisons)


def _paired(gap: Difference, comparisons: int) -> Callable[[float], float]:
    """Returns the chance of being seen as a function of the true gap, for a test of pairs."""
    from scipy.special import nctdtr

    error, degrees = np.sqrt(gap.variances[0]), gap.sizes[0] - 1
    critical = t_quantile(1 - SIGNIFICANCE / comparisons, degrees)

    def chance(true_gap: float) -> float:
        noncentrality = true_gap / error
        if noncentrality > 20 * (1 + critical):  # 1 to all digits, and the library's series no longer ends
            return 1.0
        return float(min(1.0, max(0.0, 1 - nctdtr(degrees, noncentrality, critical))))

    return chance


def _welch(gap: Difference, comparisons: int) -> Callable[[float], float]:
    """Returns the chance of being seen as a function of the true gap, for Welch's test: exact but for the quadrature."""
    from scipy.special import ndtr, stdtrit

    (factors, weights), (other_factors, other_weights) = (variance_factors(size) for size in gap.sizes)
    measured = gap.variances[0] * factors[:, None], gap.variances[1] * other_factors[None, :]
    degrees = satterthwaite(measured, gap.sizes)
    thresholds = stdtrit(degrees, 1 - SIGNIFICANCE / comparisons / 2) * np.sqrt(measured[0] + measured[1])
    error = np.sqrt(sum(gap.variances))

    def chance(true_gap: float) -> float:
        return float(weights @ ndtr((true_gap - thresholds) / error) @ other_weights)

    return chance


@lru_cache(maxsize=16)
def variance_factors(n: int) -> tuple[Array, Array]:
    """Returns nodes and weights for means over s^2 / sigma^2, the sample variance of `n` normal values over the true one."""
    from scipy.special import chdtri

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return np.asarray(chdtri(n - 1, (1 - nodes) / 2)) / (n - 1), weights / 2
