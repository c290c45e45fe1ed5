"""Ratios of medians over rounds, with bootstrap intervals, and how far two timings of the same thing differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians; `low` and `high` are a 95 % interval, None from a single round."""

    value: float
    low: float | None
    high: float | None


def ratio_of_medians(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Returns median(numerators) / median(denominators) with a percentile bootstrap interval over rounds.

    Both sides of a round were timed within a minute of each other, so that a slow minute hits both: rounds are drawn, not timings.

    Args:
        numerators: one a round.
        denominators: one a round, of the same rounds.

    Raises:
        ValueError: there is no round, or the sides have different numbers of them.
    """
    if not numerators or len(numerators) != len(denominators):
        raise ValueError(f"needs as many numerators as denominators, not {len(numerators)} and {len(denominators)}")
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    value = float(np.median(above) / np.median(below))
    if len(above) == 1:
        return Ratio(value, None, None)
    drawn = np.random.default_rng(SEED).integers(0, len(above), (RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Ratio(value, float(low), float(high))


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Returns the median of each round's ratio, where the sides of a round took turns, with a bootstrap interval over rounds.

    Args:
        numerators: one a round.
        denominators: one a round, of the same rounds.

    Raises:
        ValueError: see `ratio_of_medians`.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"needs as many numerators as denominators, not {len(numerators)} and {len(denominators)}")
    ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
    return ratio_of_medians(ratios, [1.0] * len(ratios))


def spread(
    first: Sequence[float], second: Sequence[float], ratio_of: Callable[[Sequence[float], Sequence[float]], Ratio] = ratio_of_medians
) -> float | None:
    """Returns how far equal things differ: the largest distance from 1 of the interval of second to first, two timings of one program.

    No difference that is smaller can be claimed. None from a single round.
    """
    if len(first) < 2:
        return None
    ratio = ratio_of(second, first)
    assert ratio.low is not None
    assert ratio.high is not None
    return max(abs(ratio.low - 1.0), abs(ratio.high - 1.0))
