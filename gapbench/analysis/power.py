"""What a table of this size can see: the chance that it separates a given gap, and the smallest gap that it separates with 80 %.

So "not separated" can be read: from a table that sees 1 pp with 95 % it means a small gap, from one that sees it with 20 % it means
too few seeds. The gap asked for is fixed beforehand; the power at the gap that was measured would only say the p-value again.

The measured standard error stands for the true one. A gap delta is separated, with the right sign, where T > t(1 - alpha / (2 m)), T
being noncentral t with noncentrality delta / error and the degrees of freedom of the test. m is the number of comparisons of the table:
that is the first and hardest step of Holm's procedure, so the chances given here are at most too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gapbench.analysis.differences import Difference
from gapbench.analysis.intervals import t_quantile

SIGNIFICANCE = 0.05
"""Familywise error of the verdict column."""
GAP_PP = 1.0
"""The gap whose chance of being seen is told."""
CHANCE = 0.8
"""The chance with which the smallest gap told is seen."""


@dataclass(frozen=True)
class Power:
    """What a comparison of two cells can see, judged at 5 % together with the others of its table."""

    chance: float
    """That a true gap of GAP_PP percentage points would have been separated, with the right sign."""
    smallest_gap_pp: float
    """The true gap that would have been separated with probability CHANCE."""
    comparisons: int
    """Number of comparisons that the significance is shared by."""


def power(gap: Difference | None, comparisons: int = 1) -> Power | None:
    """Returns what a comparison with this error and these degrees of freedom can see; None from one seed and without any spread.

    Args:
        gap: a difference in percentage points; its estimate does not count.
        comparisons: size of Holm's family, >= 1.
    """
    if gap is None or not gap.error or not gap.degrees:
        return None
    critical = t_quantile(1 - SIGNIFICANCE / comparisons, gap.degrees)
    smallest = _noncentrality(CHANCE, critical, gap.degrees) * gap.error
    return Power(chance_beyond(critical, gap.degrees, GAP_PP / gap.error), smallest, comparisons)


def chance_beyond(critical: float, degrees: float, noncentrality: float) -> float:
    """Returns P(T > `critical`) for noncentral t, from 0 to 1."""
    from scipy.special import nctdtr

    # Beyond that the chance is 1 to all digits, and far beyond the library's series no longer ends.
    if noncentrality > 20 * (1 + critical):
        return 1.0
    return float(min(1.0, max(0.0, 1 - nctdtr(degrees, noncentrality, critical))))


def _noncentrality(chance: float, critical: float, degrees: float) -> float:
    """Returns the noncentrality at which P(T > `critical`) is `chance`."""
    from scipy.optimize import brentq

    high = 1.0 + critical
    while chance_beyond(critical, degrees, high) < chance:
        high *= 2
    return float(brentq(lambda found: chance_beyond(critical, degrees, found) - chance, 0.0, high, xtol=1e-9))


def chances_text(found: Sequence[Power]) -> str:
    """Returns "1 pp would have been seen with 93 %", or the range where there are several."""
    percents = sorted({_percent(one.chance) for one in found}, key=lambda text: float(text.strip("<> ")))
    shown = percents[0] if len(percents) == 1 else f"{percents[0]} to {percents[-1]}"
    return f"{GAP_PP:g} pp would have been seen with {shown} %"


def _percent(chance: float) -> str:
    """Returns a chance as a whole percent that never says certain or impossible."""
    return "> 99" if chance > 0.99 else "< 1" if chance < 0.01 else f"{100 * chance:.0f}"
