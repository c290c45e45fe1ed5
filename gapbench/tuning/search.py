"""The search itself: rounds of points, decided from scores alone. It knows neither suites nor files.

A point is a learning rate, as a power of the step, and one combination of whatever else is searched. Round by round:

1. the grid: as many rates for every cell, a whole step apart, centred on the cell's own guess;
2. extensions: while the best rate of some cell is the lowest or highest that was tried, every cell gets as many more rates, each on
   the side of its range where its own best rate lies, so that no cell is searched harder than another;
3. the refinement: the rates half a step below and above the best one of every cell;
4. the check: the best five points of every cell, on fresh seeds. Only these decide, so that luck in the search does not count;
5. the ends: what the search ends in is the best rate with the rates around it that cannot be told from it. While an end of that range was
   not tried on the fresh seeds, it is; so a range is not wide only because little was tried.

Equal merits are told apart by the lower loss, then by the lower rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gapbench.analysis.stats import Array, crossed_interval
from gapbench.catalog import Metric
from gapbench.core.events import Outcome

Stage = Literal["trial", "check"]


@dataclass(frozen=True, order=True)
class Point:
    """One setting of what is searched."""

    power: int
    """The learning rate is the untouched one times step^(power / stride); 0 where it is not searched."""
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
Alike = Callable[[str, Point, Point, Stage], bool]
"""Whether the first point of a cell cannot be told from the second one, by the seeds of a stage."""
Values = Callable[[str, Point, Stage], Array | None]
"""The metric of a cell's point on the held-out part [seeds, folds]; None where it was not tried so, or a run of it diverged."""


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
    stride: int = 1
    """Powers in a step of the grid: 2 where the search is refined by half steps, 1 where it is not."""
    finalists: int = 3
    """Points of a cell that are tried again on fresh seeds."""
    ends: bool = False
    """Whether the ends of the rates that cannot be told apart are tried on fresh seeds, too."""

    def grid(self, centre: int) -> Range:
        """Returns the first range around a centre; of an even number of rates, one more lies above than below."""
        low = centre - (self.trials - 1) // 2 * self.stride
        return Range(low, low + (self.trials - 1) * self.stride, self.stride)

    def between(self, best: Point) -> tuple[Point, ...]:
        """Returns the points of the refinement around the best one; none where the search is not refined."""
        return tuple(Point(best.power + beside, best.other) for beside in (-1, 1)) if self.stride > 1 else ()


@dataclass(frozen=True)
class Range:
    """The learning rates of a cell that were tried: powers from `low` to `high`, both included, `stride` apart."""

    low: int
    high: int
    stride: int = 1

    @property
    def size(self) -> int:
        """Number of learning rates."""
        return (self.high - self.low) // self.stride + 1

    def points(self, others: int) -> tuple[Point, ...]:
        """Returns every point."""
        return tuple(Point(power, other) for power in range(self.low, self.high + 1, self.stride) for other in range(others))

    def longer(self, count: int, *, above: bool) -> Range:
        """Returns a range with more rates at one end."""
        by = count * self.stride
        return Range(self.low, self.high + by, self.stride) if above else Range(self.low - by, self.high, self.stride)

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
    """From where to where grid and extensions reach, by cell."""

    def tried(self, cell: str, stage: Stage = "trial") -> tuple[Point, ...]:
        """Returns the points of a cell that were tried in a stage or are to be, from the lowest rate."""
        return tuple(sorted(point for tried in self.rounds if tried.stage == stage for point in tried.points.get(cell, ())))


def replay(centres: Mapping[str, int], rules: Rules, score: Scores, alike: Alike | None = None) -> Search:
    """Returns the rounds that these outcomes lead to; the last one lacks outcomes unless the search is complete.

    Args:
        centres: the power in the middle of each cell's grid.
        rules: of the search.
        score: what is known.
        alike: whether a point of a cell cannot be told from its best one; only of a search that looks for the ends of those.
    """
    ranges = {cell: rules.grid(centre) for cell, centre in centres.items()}
    rounds = [Round("grid", "trial", {cell: own.points(rules.others) for cell, own in ranges.items()})]
    added = 0
    while True:
        if not _has_outcomes(rounds[-1], score):
            return Search(tuple(rounds), complete=False, ranges=ranges)
        order = _ranked(Search(tuple(rounds), complete=False, ranges=ranges), score)
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
    refined = {cell: rules.between(points[0]) if points else () for cell, points in order.items()}
    if any(refined.values()):
        rounds.append(Round("refinement", "trial", refined))
        if not _has_outcomes(rounds[-1], score):
            return Search(tuple(rounds), complete=False, ranges=ranges)
        order = _ranked(Search(tuple(rounds), complete=False, ranges=ranges), score)
    finalists = {cell: tuple(points[: rules.finalists]) for cell, points in order.items()}
    if any(finalists.values()):
        rounds.append(Round("check", "check", finalists))
    number = 0
    while (complete := _has_outcomes(rounds[-1], score)) and rules.ends and alike is not None:
        found = Search(tuple(rounds), complete=True, ranges=ranges)
        ends = {cell: _ends_to_try(found, cell, score, alike) for cell in ranges}
        if not any(ends.values()):
            break
        number += 1
        rounds.append(Round(f"ends {number}", "check", ends))
    return Search(tuple(rounds), complete=complete, ranges=ranges)


def best_of(search: Search, cell: str, score: Scores) -> Point | None:
    """Returns the best point of a cell on the fresh seeds; None where none is eligible there."""
    return next(iter(ranked(search.tried(cell, "check"), lambda point: score(cell, point, "check"))), None)


def ends_of(search: Search, cell: str, best: Point, score: Scores, alike: Alike) -> tuple[Point, Point]:
    """Returns the lowest and the highest of the rates around the best one that cannot be told from it, at its other values.

    A rate is held against the best one on fresh seeds where it was tried on them, else on the seeds of the search.
    """
    checked = set(search.tried(cell, "check"))
    tried = [point for point in search.tried(cell) if point.other == best.other and score(cell, point, "trial") is not None]

    def like_best(power: int) -> bool:
        point = Point(power, best.other)
        return alike(cell, point, best, "check" if point in checked else "trial")

    low, high = around(best.power, [point.power for point in tried], like_best)
    return Point(low, best.other), Point(high, best.other)


def _ends_to_try(search: Search, cell: str, score: Scores, alike: Alike) -> tuple[Point, ...]:
    """Returns the ends of the rates that cannot be told from the best one, as far as they were not tried on fresh seeds."""
    best = best_of(search, cell, score)
    ends = () if best is None else ends_of(search, cell, best, score, alike)
    return tuple(sorted(set(ends) - set(search.tried(cell, "check"))))


def ranked(points: Sequence[Point], score: Callable[[Point], Score | None]) -> list[Point]:
    """Returns the eligible points, the best first."""
    known = {point: found for point in points if (found := score(point)) is not None and found.merit is not None}
    return sorted(known, key=lambda point: (-(known[point].merit or 0.0), known[point].loss, point))


def around(best: int, powers: Sequence[int], alike: Callable[[int], bool]) -> tuple[int, int]:
    """Returns the lowest and the highest of the powers around the best one that are like it, without a gap.

    Args:
        best: power of the best rate.
        powers: of all rates that were tried, from the lowest.
        alike: whether the rate of a power cannot be told from the best one.
    """
    place = powers.index(best)
    below = itertools.takewhile(alike, reversed(powers[:place]))
    above = itertools.takewhile(alike, powers[place + 1 :])
    return min(below, default=best), max(above, default=best)


def rate_of(base: float, step: float, power: float) -> float:
    """Returns a learning rate, to the four digits that are written down and read by people; `power` counts steps."""
    return float(f"{base * step**power:.4g}")


def _has_outcomes(tried: Round, score: Scores) -> bool:
    return all(score(cell, point, tried.stage) is not None for cell, points in tried.points.items() for point in points)


def _ranked(search: Search, score: Scores) -> dict[str, list[Point]]:
    """Returns the eligible points of every cell in the search so far, the best first."""

    def order(cell: str) -> list[Point]:
        return ranked(search.tried(cell), lambda point: score(cell, point, "trial"))

    return {cell: order(cell) for cell in search.ranges}


def _extended(own: Range, order: Sequence[Point], by: int) -> Range:
    """Returns a range with more rates on the side of the best one; below where it is in the middle, or where every rate diverged."""
    return own.longer(by, above=bool(order) and own.high - order[0].power < order[0].power - own.low)


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


def values_of(runs: RunsOf, known: Known, folds: int) -> Values:
    """Returns the values that `alike_by` asks for; runs are ordered by seed, and those of a seed by fold."""

    def values(cell: str, point: Point, stage: Stage) -> Array | None:
        found = [known(run_id) for run_id in runs(cell, point, stage)]
        ended = [one[1] for one in found if one is not None and one[0] == Outcome.OK]
        return np.array(ended).reshape(-1, folds) if found and len(ended) == len(found) else None

    return values


def alike_by(values: Values) -> Alike:
    """Returns the rule by which points cannot be told apart: the interval of their difference over seeds and folds holds zero."""

    def alike(cell: str, point: Point, best: Point, stage: Stage) -> bool:
        first, second = values(cell, point, stage), values(cell, best, stage)
        if first is None or second is None:
            return False  # a run of it diverged
        difference = crossed_interval(first - second)
        return difference.low is None or difference.high is None or difference.low <= 0.0 <= difference.high

    return alike
