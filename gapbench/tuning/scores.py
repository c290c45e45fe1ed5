"""From outcomes of runs to scores of points: means on the held-out part; one diverged run rules its point out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gapbench.core.outcome import Outcome
from gapbench.tuning.search import NOT_ELIGIBLE, Point, Score, Scores, Stage

RunsOf = Callable[[str, Point, Stage], Sequence[str]]
"""The ids of the runs of a cell's point."""

Known = Callable[[str], tuple[str, float, float] | None]
"""Outcome, accuracy and loss on the held-out part of a run, by its id; None where it has no outcome."""


def scores_of(runs: RunsOf, known: Known) -> Scores:
    """Returns the scores that `search.replay` asks for.

    A run that crashed, ran out of memory or out of time says nothing about its point, so the point has no score until it has trained.
    """

    def score(cell: str, point: Point, stage: Stage) -> Score | None:
        found = [known(run_id) for run_id in runs(cell, point, stage)]
        if not found or any(one is None or one[0] not in (Outcome.OK, Outcome.DIVERGED) for one in found):
            return None
        ended = [one for one in found if one is not None]
        if any(outcome == Outcome.DIVERGED for outcome, _, _ in ended):
            return NOT_ELIGIBLE
        return Score(math.fsum(one[1] for one in ended) / len(ended), math.fsum(one[2] for one in ended) / len(ended))

    return score
