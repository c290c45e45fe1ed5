"""How often a run is looked at: counts of the engine's moments (`engine/moments.py`), held equal to it by a test.

Planning imports neither torch nor numpy, so it counts for itself.
"""

from __future__ import annotations

import functools
import math

_PER_DECADE = 20
_LAST = (0.96, 0.97, 0.98, 0.99, 1.0)
_FEWEST_FOR_LAST = 100


@functools.lru_cache(maxsize=512)
def probed(updates: int) -> frozenset[int]:
    """Returns the updates (counted from 1) after which probes run: log-spaced, and the last."""
    points = max(2, math.ceil(_PER_DECADE * math.log10(max(updates, 2))) + 1)
    return frozenset(round(updates ** (point / (points - 1))) for point in range(points))


@functools.lru_cache(maxsize=512)
def evaluated(updates: int, evaluations: int) -> tuple[int, ...]:
    """Returns the updates (counted from 1) after which a run is evaluated, ascending and different."""
    rest = max(evaluations - len(_LAST), 0)
    early, last = rest // 3, _LAST[-evaluations:]
    even = rest - early
    fractions = [0.002 * 50.0 ** (point / early) for point in range(early)]
    fractions += [point * ((0.95 - 0.1) / even) + 0.1 for point in range(even)]
    fractions += last if updates >= _FEWEST_FOR_LAST else last[-1:]
    return tuple(sorted({max(1, round(fraction * updates)) for fraction in fractions}))
