"""When to look: log-spaced updates for probes, and the same fractions of training for evaluations in every arm."""

from __future__ import annotations

import math

import numpy as np

from gapbench.suite.batches import BatchTable

PROBES_PER_DECADE = 20
LAST_FRACTIONS = (0.96, 0.97, 0.98, 0.99, 1.0)
"""Evaluations in the last 5 % of training, so that a headline may average over them."""
FEWEST_UPDATES_FOR_LAST = 100
"""With fewer updates than this the last 5 % hold no five different ones."""


def probe_updates(updates: int) -> frozenset[int]:
    """Returns the numbers of updates done (1 .. updates) after which probes run: log-spaced, about 20 a decade, and the last."""
    points = max(2, math.ceil(PROBES_PER_DECADE * math.log10(max(updates, 2))) + 1)
    spaced = np.unique(np.rint(np.geomspace(1, updates, points)).astype(int))
    return frozenset(int(update) for update in spaced)


def evaluation_fractions(evaluations: int) -> tuple[float, ...]:
    """Returns the fractions of training at which a run with `evaluations` evaluations is evaluated, ascending, the last 1.

    Five lie in the last 5 %, a third of the rest log-spaced over the first tenth, the others even from there on.
    """
    rest = max(evaluations - len(LAST_FRACTIONS), 0)
    early = rest // 3
    even = rest - early
    log_spaced = np.geomspace(0.002, 0.1, early, endpoint=False) if early else np.array([])
    spaced = np.linspace(0.1, 0.95, even, endpoint=False) if even else np.array([])
    last = np.array(LAST_FRACTIONS[-evaluations:])
    return tuple(float(value) for value in np.concatenate([log_spaced, spaced, last]))


def evaluation_updates(batches: BatchTable, evaluations: int) -> tuple[int, ...]:
    """Returns the numbers of updates done after which a run is evaluated, ascending and different.

    Fractions are of the updates, or of the examples where the batch grows: then evaluations are compared at equal examples.
    """
    fractions = evaluation_fractions(evaluations)
    counted = batches.updates if batches.bound is None else round(batches.all_steps)  # known when planning, and the same to the end
    if counted < FEWEST_UPDATES_FOR_LAST:
        fractions = tuple(fraction for fraction in fractions if fraction not in LAST_FRACTIONS[:-1])
    return tuple(sorted({batches.updates_at(max(1, round(fraction * batches.all_steps))) for fraction in fractions}))


def keep_updates(batches: BatchTable, fractions: tuple[float, ...]) -> dict[int, float]:
    """Returns, by number of updates done (0 is before the first), the fraction of the training at which weights are kept."""
    return {batches.updates_at(round(fraction * batches.all_steps)): fraction for fraction in fractions}
