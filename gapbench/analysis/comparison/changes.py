"""How one measure of a cell differs between two results: B minus A, with an interval where the seeds allow one.

Differences are paired by split where each seed draws its own split and all splits of one side are in the other; else they are
Welch's. Where only some splits are shared, Welch's interval is too wide rather than too narrow, since shared splits go up and down
together. A published single run is held against where one new run of the other side would fall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gapbench.analysis.differences import difference, holm
from gapbench.analysis.intervals import LEVEL, t_quantile, two_sided_p

SIGNIFICANCE = 0.05
"""Familywise error of one measure over the cells of a comparison."""

Method = Literal["welch", "paired", "prediction", ""]


@dataclass(frozen=True)
class Change:
    """One measure of one cell in A and in B, in the unit of the measure."""

    first: float | None
    """Mean in A; None where there is no value."""
    second: float | None
    n_first: int
    n_second: int
    estimate: float | None = None
    """B minus A; of the shared splits only where it is paired."""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    method: Method = ""
    """`prediction`: a single published value against one new run of the other side."""
    p_holm: float | None = None
    """Adjusted over the cells of the comparison; None where the cell gets no verdict."""

    @property
    def separated(self) -> bool:
        """Whether the difference is separated from zero, over all cells together."""
        return self.p_holm is not None and self.p_holm <= SIGNIFICANCE


def change(first: Mapping[int, float], second: Mapping[int, float], *, same_splits: bool) -> Change:
    """Returns the change of a measure between two cells.

    Args:
        first: values in A, by split where seeds draw a split, else by position.
        second: values in B.
        same_splits: whether equal keys are equal splits.
    """
    paired = same_splits and len(set(first) & set(second)) == min(len(first), len(second))
    found = difference(first, second, paired=paired)
    plain = Change(_mean(first), _mean(second), len(first), len(second))
    if found is None:
        return plain
    # Without any spread between seeds there is nothing to make an interval of, though a formula would give one of no width.
    if found.low is None or found.high is None or found.p_value is None:
        return replace(plain, estimate=-found.estimate, method=found.method)
    return replace(plain, estimate=-found.estimate, low=-found.high, high=-found.low, p_value=found.p_value, method=found.method)


def change_from_published(published: float, rounding: float, sample: Sequence[float], *, published_first: bool) -> Change:
    """Returns the change between a published single run and our runs of the same cell; its interval holds one new run of ours.

    The published value's rounding widens the interval. Without interval and p-value below two seeds.

    Args:
        published: the published value.
        rounding: half a unit of its last printed digit.
        sample: our values, one a seed, in the same unit.
        published_first: whether the paper is A.
    """
    ours = np.asarray(sample, dtype=np.float64)
    n, sign = len(ours), 1 if published_first else -1
    mean = float(ours.mean()) if n else None
    numbers = (published, mean, 1, n) if published_first else (mean, published, n, 1)
    plain = Change(*numbers)
    if mean is None:
        return plain
    estimate = sign * (mean - published)
    spread = float(ours.std(ddof=1)) * float(np.sqrt(1 + 1 / n)) if n > 1 else 0.0
    if spread == 0:
        return replace(plain, estimate=estimate, method="prediction")
    half = t_quantile(LEVEL, n - 1) * spread + rounding
    p_value = two_sided_p(max(0.0, abs(estimate) - rounding) / spread, n - 1)
    return replace(plain, estimate=estimate, low=estimate - half, high=estimate + half, p_value=p_value, method="prediction")


def judged(changes: Sequence[Change | None]) -> list[Change | None]:
    """Returns the changes of one measure with p-values adjusted over all of them by Holm's procedure; None are left alone."""
    positions = [position for position, one in enumerate(changes) if one is not None and one.p_value is not None]
    adjusted = holm([one.p_value for one in changes if one is not None and one.p_value is not None])
    found = list(changes)
    for position, p_holm in zip(positions, adjusted, strict=True):
        one = found[position]
        assert one is not None
        found[position] = replace(one, p_holm=p_holm)
    return found


def _mean(sample: Mapping[int, float]) -> float | None:
    return sum(sample.values()) / len(sample) if sample else None
