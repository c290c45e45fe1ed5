"""The search itself: rounds of points, decided from scores alone. It knows neither suites nor files.

A point is a learning rate, as a whole power of the step, and one combination of whatever else is searched. Round by round:

1. the grid: as many rates for every cell, centred on the cell's own guess;
2. extensions: while the best rate of some cell is the lowest or highest that was tried, every cell gets as many more rates, each on
   the side of its range where its own best rate lies, so that no cell is searched harder than another;
3. the check: the best three points of every cell, on fresh seeds. Only these decide, so that luck in the search does not count.

Equal merits are told apart by the lower loss, then by the lower rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gapbench.catalog import Metric
from gapbench.core.events import Outcome

FINALISTS = 3
"""Points of a cell that are tried again on fresh seeds."""

Stage = Literal["trial", "check"]


@dataclass(frozen=True, order=True)
class Point:
    """One setting of what is searched."""

    power: int
    """The learning rate is the untouched one times step^power; 0 where it is not searched."""
    other: int = 0
    """Position among the combinations of everything else that is searched."""


@dataclass(frozen=True)
class Score:
    """What a point came to on the held-out part: means over seeds and folds."""

    merit: float | None
    """The metric that runs are compared by, so signed that more is better; None: not eligible, because a run of it diverged."""
    loss: float = 0.0

    @property
    def eligible(self) -> bool:
        """Whether every run of it ended well."""
        return self.merit is not None


NOT_ELIGIBLE = Score(None)

Scores = Callable[[str, Point, Stage], Score | None]
"""The score of a cell's point; None while some of its runs have no outcome."""


@dataclass(frozen=True)
class Rules:
    """The same for every cell of a comparison."""

    trials: int
    """Learning rates of the grid; 1 where the rate is not searched."""
    extend_by: int
    """Learning rates that an extension adds to every cell."""
    extend_at_most: int
    """Learning rates that all extensions together add to every cell; 0 where the rate is not searched."""
    others: int = 1
    """Combinations of everything else that is searched: each is tried at every rate."""

    def grid(self, centre: int) -> Range:
        """Returns the first range around a centre; of an even number of rates, one more lies above than below."""
        low = centre - (self.trials - 1) // 2
        return Range(low, low + self.trials - 1)


@dataclass(frozen=True)
class Range:
    """The learning rates of a cell that were tried: powers from `low` to `high`, both included."""

    low: int
    high: int

    @property
    def size(self) -> int:
        """Number of learning rates."""
        return self.high - self.low + 1

    def points(self, others: int) -> tuple[Point, ...]:
        """Returns every point."""
        return tuple(Point(power, other) for power in range(self.low, self.high + 1) for other in range(others))

    def holds_inside(self, power: int) -> bool:
        """Whether there are rates on both sides of one."""
        return self.low < power < self.high


@dataclass(frozen=True)
class Round:
    """Points that are tried together."""

    name: str
    stage: Stage
    points: Mapping[str, tuple[Point, ...]]
    """By cell."""


@dataclass(frozen=True)
class Search:
    """How far a search is."""

    rounds: tuple[Round, ...]
    """All that were decided so far, in order."""
    complete: bool
    """Whether the last of them has all its outcomes and nothing follows."""
    ranges: Mapping[str, Range]
    """What was tried, by cell."""


def replay(centres: Mapping[str, int], rules: Rules, score: Scores) -> Search:
    """Returns the rounds that these outcomes lead to; the last one lacks outcomes unless the search is complete.

    Args:
        centres: the power in the middle of each cell's grid.
        rules: of the search.
        score: what is known.
    """
    ranges = {cell: rules.grid(centre) for cell, centre in centres.items()}
    rounds = [Round("grid", "trial", {cell: own.points(rules.others) for cell, own in ranges.items()})]
    added = 0
    while True:
        if not _has_outcomes(rounds[-1], score):
            return Search(tuple(rounds), complete=False, ranges=ranges)
        order = {cell: _ranked_trials(cell, own.points(rules.others), score) for cell, own in ranges.items()}
        inside = all(points and ranges[cell].holds_inside(points[0].power) for cell, points in order.items())
        if inside or added >= rules.extend_at_most:
            break
        by = min(rules.extend_by, rules.extend_at_most - added)
        wider = {cell: _extended(own, order[cell], by) for cell, own in ranges.items()}
        new = {
            cell: tuple(point for point in wider[cell].points(rules.others) if not own.low <= point.power <= own.high)
            for cell, own in ranges.items()
        }
        rounds.append(Round(f"extension {len(rounds)}", "trial", new))
        ranges = wider
        added += by
    finalists = {cell: tuple(points[:FINALISTS]) for cell, points in order.items()}
    if any(finalists.values()):
        rounds.append(Round("check", "check", finalists))
    return Search(tuple(rounds), complete=_has_outcomes(rounds[-1], score), ranges=ranges)


def ranked(points: Sequence[Point], score: Callable[[Point], Score | None]) -> list[Point]:
    """Returns the eligible points, the best first."""
    known = {point: found for point in points if (found := score(point)) is not None and found.merit is not None}
    return sorted(known, key=lambda point: (-(known[point].merit or 0.0), known[point].loss, point))


def within(best: int, own: Range, merit: Callable[[int], float | None], margin: float) -> Range:
    """Returns the rates around the best one, without a gap, whose merit is at most `margin` below that of the best one.

    Args:
        best: power of the best rate.
        own: what was tried.
        merit: of a power, on the same seeds for all; None: not eligible.
        margin: in the unit of merits, such as 0.01 of accuracies.
    """
    top = merit(best)
    low = high = best

    def near(power: int) -> bool:
        found = merit(power)
        return top is not None and found is not None and found >= top - margin - 1e-12

    while low > own.low and near(low - 1):
        low -= 1
    while high < own.high and near(high + 1):
        high += 1
    return Range(low, high)


def rate_of(base: float, step: float, power: int) -> float:
    """Returns a learning rate, to the four digits that are written down and read by people."""
    return float(f"{base * step**power:.4g}")


def _has_outcomes(tried: Round, score: Scores) -> bool:
    return all(score(cell, point, tried.stage) is not None for cell, points in tried.points.items() for point in points)


def _ranked_trials(cell: str, points: Sequence[Point], score: Scores) -> list[Point]:
    return ranked(points, lambda point: score(cell, point, "trial"))


def _extended(own: Range, order: Sequence[Point], by: int) -> Range:
    """Returns a range with more rates on the side of the best one; below where it is in the middle, or where every rate diverged."""
    if order and own.high - order[0].power < order[0].power - own.low:
        return Range(own.low, own.high + by)
    return Range(own.low - by, own.high)


# From outcomes of runs to scores of points: means on the held-out part; one diverged run rules its point out.

RunsOf = Callable[[str, Point, Stage], Sequence[str]]
"""The ids of the runs of a cell's point."""

Known = Callable[[str], tuple[str, float, float] | None]
"""Outcome, metric and loss on the held-out part of a run, by its id; None where it has no outcome."""


def scores_of(runs: RunsOf, known: Known, metric: Metric) -> Scores:
    """Returns the scores that `search.replay` asks for.

    A run that crashed, ran out of memory or out of time says nothing about its point, so the point has no score until it has trained.
    """

    def score(cell: str, point: Point, stage: Stage) -> Score | None:
        found = [known(run_id) for run_id in runs(cell, point, stage)]
        ended = [one for one in found if one is not None and one[0] in (Outcome.OK, Outcome.DIVERGED)]
        if not found or len(ended) < len(found):
            return None
        if any(outcome == Outcome.DIVERGED for outcome, _, _ in ended):
            return NOT_ELIGIBLE
        value, loss = (math.fsum(numbers) / len(ended) for numbers in ([one[1] for one in ended], [one[2] for one in ended]))
        return Score(value if metric.direction == "higher" else -value, loss)

    return score
