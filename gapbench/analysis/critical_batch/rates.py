"""From steps by batch size, learning rate and seed to one rate for each batch size: that with the fewest steps to the target.

Taking the best of several rates makes steps too few by a little, and by the same factor at every batch size only if each was given the
same number of rates. So the number is checked, and a best rate at the edge of its range is flagged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Passage:
    """One run and one target."""

    batch_size: float
    learning_rate: float
    seed: int
    steps: float | None
    """None: not reached."""
    trained: float
    """Updates that were made: where it is censored."""


@dataclass(frozen=True)
class Chosen:
    """The rate of one batch size."""

    batch_size: float
    learning_rate: float
    steps: tuple[float, ...]
    """Of its seeds that reached the target."""
    censored: tuple[float, ...]
    """Updates of those that did not."""
    rates: int
    """How many were tried."""
    at_edge: str
    """"lowest" or "highest": the best rate is an end of its range, so that a better one may lie beyond. Empty: inside, or only one."""


def choose_rates(passages: Sequence[Passage]) -> list[Chosen]:
    """Returns the best rate of every batch size, ascending, by the median of its seeds' steps.

    A rate at which some seed did not reach the target is chosen only where no rate takes all seeds there.
    """
    by_cell: dict[tuple[float, float], list[Passage]] = {}
    for passage in passages:
        by_cell.setdefault((passage.batch_size, passage.learning_rate), []).append(passage)
    out = []
    for size in sorted({size for size, _ in by_cell}):
        rates = sorted(rate for other, rate in by_cell if other == size)
        best = min(rates, key=lambda rate: _score(by_cell[size, rate]))
        edge = "" if len(rates) == 1 else "lowest" if best == rates[0] else "highest" if best == rates[-1] else ""
        own = by_cell[size, best]
        steps = tuple(passage.steps for passage in own if passage.steps is not None)
        censored = tuple(passage.trained for passage in own if passage.steps is None)
        out.append(Chosen(size, best, steps, censored, len(rates), edge))
    return out


def unequal_budget(chosen: Sequence[Chosen]) -> Mapping[float, int]:
    """Returns the number of rates by batch size where they are not all the same; else nothing."""
    counts = {one.batch_size: one.rates for one in chosen}
    return counts if len(set(counts.values())) > 1 else {}


def _score(own: Sequence[Passage]) -> tuple[float, float]:
    """Returns what the best rate has least of: seeds that did not reach the target, then the median of the steps."""
    steps = [passage.steps for passage in own if passage.steps is not None]
    missing = 1.0 - len(steps) / len(own)
    return missing, median(steps) if steps else math.inf
