"""How often a run is looked at: counts of the engine's moments (`engine/moments.py`), held equal to it by a test.

Planning imports neither torch nor numpy, so it counts for itself.
"""

from __future__ import annotations

import functools
import math

from gapbench.suite.runspec import RunSpec

_PER_DECADE = 20
_LAST = (0.96, 0.97, 0.98, 0.99, 1.0)
_FEWEST_FOR_LAST = 100


@functools.lru_cache(maxsize=512)
def probed(updates: int) -> frozenset[int]:
    """Returns the updates (counted from 1) after which probes run: log-spaced, and the last."""
    points = max(2, math.ceil(_PER_DECADE * math.log10(max(updates, 2))) + 1)
    return frozenset(round(updates ** (point / (points - 1))) for point in range(points))


def evaluated_of(spec: RunSpec) -> tuple[int, ...]:
    """Returns the updates (counted from 1) after which a run is evaluated, ascending and different."""
    batches = spec.batches
    if not batches.grows:
        return evaluated(spec.updates, spec.evaluations)
    steps = _evaluated(round(batches.all_steps), spec.evaluations, last=spec.updates >= _FEWEST_FOR_LAST)
    return tuple(sorted({batches.updates_at(step) for step in steps}))


@functools.lru_cache(maxsize=512)
def evaluated(updates: int, evaluations: int) -> tuple[int, ...]:
    """Returns what `evaluated_of` returns for so many updates of equal batches."""
    return _evaluated(updates, evaluations, last=updates >= _FEWEST_FOR_LAST)


def _evaluated(steps: int, evaluations: int, *, last: bool) -> tuple[int, ...]:
    rest = max(evaluations - len(_LAST), 0)
    early = rest // 3
    even = rest - early
    fractions = [0.002 * 50.0 ** (point / early) for point in range(early)]
    fractions += [point * ((0.95 - 0.1) / even) + 0.1 for point in range(even)]
    fractions += _LAST[-evaluations:] if last else _LAST[-1:]
    return tuple(sorted({max(1, round(fraction * steps)) for fraction in fractions}))
