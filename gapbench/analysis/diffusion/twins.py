"""Twins: runs of the same order whose initial weights differ by next to nothing. How far they part is chaos, and no diffusion by data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.diffusion.ensemble import Walks
from gapbench.analysis.intervals import Estimate, t_interval
from gapbench.suite.runspec import RunSpec

Array = npt.NDArray[np.float64]

_MAY_DIFFER = ("initial_perturbation", "seed", "init_seed", "order_seed", "split_seed")


@dataclass(frozen=True, eq=False)
class Twin:
    """Two cells of which one started a little beside the other."""

    original: Walks
    perturbed: Walks
    perturbation: float
    """Length of the step between their initial weights, as a share of those weights' norm."""
    updates: Array
    share: Array
    """Half the squared distance of the twins over the spread squared over orders, mean over pairs, [point]: 1 is all of it."""
    last: Estimate | None
    """The share at the last update, over pairs."""


def twins_of(walks: Sequence[Walks]) -> list[Twin]:
    """Returns the pairs of cells that differ in their initial perturbation only, both with sketches and the original with a spread."""
    out = []
    for perturbed in walks:
        step = perturbed.spec.initial_perturbation
        for original in walks if step else ():
            stepped = original.spec.initial_perturbation > 0
            if not stepped and original.decomposition is not None and _rest(original.spec) == _rest(perturbed.spec):
                out += [found] if (found := _compare(original, perturbed, step)) is not None else []
    return out


def _compare(original: Walks, perturbed: Walks, step: float) -> Twin | None:
    decomposition = original.decomposition
    assert decomposition is not None
    mine, theirs = original.by_order(), perturbed.by_order()
    pairs = [(original.sketches[mine[order]], perturbed.sketches[theirs[order]]) for order in mine if order in theirs]
    if not pairs:
        return None
    updates = decomposition.updates
    for (first, _), (second, _) in pairs:
        updates = np.intersect1d(updates, np.intersect1d(first, second))
    spread2 = np.exp(2 * decomposition.logs["spread"].value[np.isin(decomposition.updates, updates)])
    parted = np.stack([np.square(_at(first, updates) - _at(second, updates)).sum(axis=1) / 2 for first, second in pairs])
    share = parted / spread2
    return Twin(original, perturbed, step, updates, share.mean(axis=0), t_interval(share[:, -1]))


def _at(sketch: tuple[Array, Array], updates: Array) -> Array:
    return sketch[1][np.isin(sketch[0], updates)]


def _rest(spec: RunSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.model_dump().items() if name not in _MAY_DIFFER}
