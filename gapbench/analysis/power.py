"""What a table of this size can see: the chance that it separates a given gap, and the smallest gap that it separates with 80 %.

So "not separated" can be read: from a table that sees 1 pp with 95 % it means a small gap, from one that sees it with 20 % it means
too few seeds. The gap asked for is fixed beforehand; the power at the gap that was measured would only say the p-value again.

The measured spreads stand for the true ones. A gap delta is separated, with the right sign, where the estimate exceeds
t(1 - alpha / (2 m)) times its estimated error. Of pairs, estimate over error is noncentral t with noncentrality delta / error. Welch's is
not, since its degrees of freedom are estimated too, and at three seeds a noncentral t would promise up to 1.6 times the chance; there the
chance is the normal one averaged over the distributions of both sample variances. m is the number of comparisons of the table: that is
the first and hardest step of Holm's procedure, so the chances given here are rather too low than too high.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gapbench.analysis.differences import Difference, satterthwaite
from gapbench.analysis.intervals import t_quantile

SIGNIFICANCE = 0.05
"""Familywise error of the verdict column."""
GAP_PP = 1.0
"""The gap whose chance of being seen is told."""
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


def power(gap: Difference | None, comparisons: int = 1, *, asked: float | None = GAP_PP) -> Power | None:
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
def variance_factors(n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns nodes and weights for means over s^2 / sigma^2, the sample variance of `n` normal values over the true one."""
    from scipy.special import chdtri

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return np.asarray(chdtri(n - 1, (1 - nodes) / 2)) / (n - 1), weights / 2


def chances_text(found: Sequence[Power]) -> str:
    """Returns "a gap of 1 pp would have been seen with probability 93 %", or the range where there are several.

    Empty where none of them was asked for its chance, as of gaps in nats.
    """
    percents = sorted({_percent(one.chance) for one in found if one.chance is not None}, key=lambda text: float(text.strip("<> ")))
    if not percents:
        return ""
    shown = percents[0] if len(percents) == 1 else f"{percents[0]} to {percents[-1]}"
    return f"a gap of {GAP_PP:g} pp would have been seen with probability {shown} %"


def _percent(chance: float) -> str:
    """Returns a chance as a whole percent that never says certain or impossible."""
    return "> 99" if chance > 0.99 else "< 1" if chance < 0.01 else f"{100 * chance:.0f}"
