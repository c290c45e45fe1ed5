"""How much of the initial weights is left: cos(w_t, w_0), measured or derived from norms and distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.analysis.curves import Curve

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cosine:
    """cos(w_t, w_0) of one run."""

    updates: Array
    values: Array
    uncertain: float
    """At most so far off at any update: 0 where it was measured; where derived, for ||w_0|| is then known within the first step only."""


def derive_cosine(distance: Curve, norm: Curve) -> Cosine | None:
    """Returns the cosine from ||w_t - w_0|| and ||w_t||; None where they have no update in common.

    w_t . w_0 = (||w_t||^2 + ||w_0||^2 - ||w_t - w_0||^2) / 2, with ||w_t|| at the first measurement, t_1, for ||w_0||, which is within
    ||w_t1 - w_0|| of it.
    """
    updates, mine, theirs = np.intersect1d(distance.updates, norm.updates, return_indices=True)
    if len(updates) == 0:
        return None
    d, w = distance.values[mine], norm.values[theirs]

    def cosine(start: float) -> Array:
        return np.asarray((w**2 + start**2 - d**2) / (2 * w * start))

    found = cosine(w[0])
    off = [np.abs(cosine(w[0] + shift) - found).max() for shift in (-d[0], d[0]) if w[0] + shift > 0]
    return Cosine(updates, found, float(max(off)))
