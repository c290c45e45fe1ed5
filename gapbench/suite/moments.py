"""When a run is looked at: log-spaced updates for probes, and the same fractions of training for evaluations in every arm.

Planning and the engine both read it, so it needs neither torch nor numpy.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from gapbench.suite.batches import BatchTable

PROBES_PER_DECADE = 20
CHUNK_EXAMPLES = 1024
"""Examples of all replicas together that are evaluated at once; no result depends on it beyond rounding."""
RECALIBRATION_EXAMPLES = 2048
"""Training examples, augmented as in training, that recalibrated norm statistics are computed over; fewer where the training set
is smaller. (Statistics of unaugmented images fit the weights worse: F1 on MNIST then has a tenth more train loss.)"""
LATE = 0.95
"""The share of training after which evaluations are late. Before it, and at the end, they also measure with recalibrated statistics."""
LATE_FRACTIONS = (0.96, 0.97, 0.98, 0.99, 1.0)
"""Evaluations in the last 5 % of training, so that a headline may average over them."""
FEWEST_UPDATES_FOR_LATE = 100
"""With fewer updates than this the last 5 % hold no five different ones."""


@functools.lru_cache(maxsize=512)
def probe_updates(updates: int) -> frozenset[int]:
    """Returns the numbers of updates done (1 .. updates) after which probes run: log-spaced, about 20 a decade, and the last."""
    points = max(2, math.ceil(PROBES_PER_DECADE * math.log10(max(updates, 2))) + 1)
    return frozenset(round(updates ** (point / (points - 1))) for point in range(points))


@functools.lru_cache(maxsize=512)
def evaluation_fractions(evaluations: int) -> tuple[float, ...]:
    """Returns the fractions of training at which a run with `evaluations` evaluations is evaluated, ascending, the last 1.

    Five lie in the last 5 %, a third of the rest log-spaced over the first tenth, the others even from there on.
    """
    rest = max(evaluations - len(LATE_FRACTIONS), 0)
    early = rest // 3
    even = rest - early
    log_spaced = [0.002 * 50.0 ** (point / early) for point in range(early)]
    spaced = [point * ((LATE - 0.1) / even) + 0.1 for point in range(even)]
    return (*log_spaced, *spaced, *LATE_FRACTIONS[-evaluations:])


def evaluation_updates(batches: BatchTable, evaluations: int) -> tuple[int, ...]:
    """Returns the numbers of updates done after which a run is evaluated, ascending and different.

    Fractions are of the updates, or of the examples where the batch grows: then evaluations are compared at equal examples.
    """
    counted = batches.updates if batches.bound is None else round(batches.all_steps)  # known when planning, and the same to the end
    steps = _evaluation_steps(batches.all_steps, evaluations, late=counted >= FEWEST_UPDATES_FOR_LATE)
    return tuple(sorted({batches.updates_at(step) for step in steps})) if batches.grows else steps


@functools.lru_cache(maxsize=512)
def _evaluation_steps(all_steps: float, evaluations: int, *, late: bool) -> tuple[int, ...]:
    fractions = evaluation_fractions(evaluations)
    if not late:
        fractions = tuple(fraction for fraction in fractions if fraction not in LATE_FRACTIONS[:-1])
    return tuple(sorted({max(1, round(fraction * all_steps)) for fraction in fractions}))


def keep_updates(batches: BatchTable, fractions: tuple[float, ...]) -> dict[int, float]:
    """Returns, by number of updates done (0 is before the first), the fraction of the training at which weights are kept."""
    return {batches.updates_at(round(fraction * batches.all_steps)): fraction for fraction in fractions}


def late_evaluations(updates: int, evaluations: int) -> int:
    """Returns how many of a run's evaluations lie in its last 5 %: five, or only the last one of a run of few updates."""
    return min(len(LATE_FRACTIONS), evaluations) if updates >= FEWEST_UPDATES_FOR_LATE else 1


def evaluations_of(*, reference_updates: int, reference_batch_size: int, test_examples: int, train_evaluation_examples: int) -> int:
    """Returns how often a run is evaluated, so that evaluation takes about 3 % of the reference cell's training time.

    An example costs 3 passes in training (forward, and backward twice as much) and 1 in evaluation, which sees the test
    set and a part of the training set; the 2 allows for recalibrated statistics. Small batches are no faster than a batch
    of 256 per update. At least 12 and at most 60.
    """
    passes = 3 * max(reference_updates * reference_batch_size, 256 * reference_updates)
    affordable = Fraction(3, 100) * passes / (2 * (test_examples + train_evaluation_examples))
    return max(12, min(60, math.floor(affordable)))
