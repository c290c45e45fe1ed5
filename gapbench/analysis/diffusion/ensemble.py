"""The walks of a cell, read from the tables: its runs with their distances, angles and sketches, and what distinguishes the runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import SKETCH, Curve, Curves
from gapbench.analysis.diffusion.angles import Cosine, derive_cosine
from gapbench.analysis.diffusion.clocks import Clock, clock_of
from gapbench.analysis.diffusion.orders import FEWEST_ORDERS, Decomposition, decompose
from gapbench.analysis.diffusion.window import CellWindow, cell_window
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Walks:
    """All that is known of how the runs of one cell walked."""

    cell: Cell
    spec: RunSpec
    """Of its first run; the others differ in seeds only."""
    clock: Clock
    window: CellWindow
    updates: Array
    """At which every run has its distance, [point]."""
    distances: Array
    """[run, point]."""
    run_ids: tuple[str, ...]
    decomposition: Decomposition | None
    reason: str
    """Why there is no decomposition; empty where there is one."""
    cosines: tuple[Cosine, ...]
    derived: bool
    """Whether the cosines are derived rather than measured."""
    scope: str
    """What the runs differ in, such as "data orders from one initialization"."""
    sketches: Mapping[str, tuple[Array, Array]] = field(repr=False)
    """By run id: updates and sketches there."""
    seeds: Mapping[str, tuple[int, int, int]] = field(repr=False)
    """By run id: seeds of the initial weights, the split and the order."""

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.distances)

    def by_order(self) -> dict[tuple[int, int, int], str]:
        """Returns the ids of the runs that have a sketch, by their seeds."""
        return {self.seeds[run_id]: run_id for run_id in self.run_ids if run_id in self.sketches}


class Reader:
    """Reads the walks of cells from the two tables.

    Args:
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id, from the plan.
        first: where windows begin; default: see `window`.
    """

    def __init__(self, runs: pd.DataFrame, curves: Curves, specs: Mapping[str, RunSpec], first: int | None = None) -> None:
        self._seeds = {
            str(row["run_id"]): (int(row["init_seed"]), int(row["split_seed"]), int(row["order_seed"]))
            for row in runs.drop_duplicates("run_id").to_dict("records")
        }
        self._specs = specs
        self._first = first
        self._distances = curves.of("weight_distance")
        self._norms = curves.of("weight_norm")
        self._cosines = curves.of("weight_cosine")
        self._clipped = curves.of("clipped_share")
        self._sketches = curves.vectors(SKETCH)

    def read(self, cell: Cell) -> Walks | str:
        """Returns the walks of a cell, or the reason why there are none."""
        ids = [run.run_id for run in cell.ok_runs if run.run_id in self._distances]
        if not ids:
            return "no ok run has measured its weight distance"
        if any(run_id not in self._specs for run_id in ids):
            return "the schedule of its runs is not known (the results have no plan)"
        if any(self._specs[run_id].adaptive_batch is not None for run_id in ids):
            return "its batch follows the noise scale, so that its clocks are not those of the plan and differ from seed to seed"
        updates = _common([self._distances[run_id] for run_id in ids])
        distances = np.stack([_values(self._distances[run_id], updates) for run_id in ids])
        spec = self._specs[ids[0]]
        clock = clock_of(spec)
        shares = [self._clipped[run_id] for run_id in ids if run_id in self._clipped]
        decomposition, reason = self._decompose(cell, ids)
        cosines, derived = self._angles(ids)
        return Walks(
            cell,
            spec,
            clock,
            cell_window(clock, spec.warmup, shares, self._first),
            updates,
            distances,
            tuple(ids),
            decomposition,
            reason,
            cosines,
            derived,
            self._scope(ids),
            {run_id: self._sketches[run_id] for run_id in ids if run_id in self._sketches},
            {run_id: self._seeds[run_id] for run_id in ids},
        )

    def _decompose(self, cell: Cell, ids: list[str]) -> tuple[Decomposition | None, str]:
        seeds = [self._seeds[run_id] for run_id in ids]
        starts = len({seed[:2] for seed in seeds})
        if starts > 1:
            return None, f"its runs have {starts} initializations or splits; fix init_seed (and split_seed) and let order_seed vary"
        if len({seed[2] for seed in seeds}) < FEWEST_ORDERS:
            return None, f"{len(ids)} ok {'run' if len(ids) == 1 else 'runs'} of one initialization; {FEWEST_ORDERS} data orders are needed"
        known = [run_id for run_id in ids if run_id in self._sketches]
        if len(known) < len(ids):
            return None, 'not every run has a displacement sketch; add probes = ["displacement_sketch"] to [run] and train anew'
        own = [Curve(self._sketches[run_id][0], self._sketches[run_id][0]) for run_id in ids]
        updates = _common([*own, *(self._distances[run_id] for run_id in ids)])
        sketches = np.stack([values[np.isin(at, updates)] for at, values in (self._sketches[run_id] for run_id in ids)])
        return decompose(updates, np.stack([_values(self._distances[run_id], updates) for run_id in ids]), sketches), ""

    def _angles(self, ids: list[str]) -> tuple[tuple[Cosine, ...], bool]:
        if all(run_id in self._cosines for run_id in ids):
            return tuple(Cosine(self._cosines[run_id].updates, self._cosines[run_id].values, 0.0) for run_id in ids), False
        found = [derive_cosine(self._distances[run_id], self._norms[run_id]) for run_id in ids if run_id in self._norms]
        return tuple(cosine for cosine in found if cosine is not None), True

    def _scope(self, ids: list[str]) -> str:
        """Names what the runs differ in."""
        init, split, order = (len({self._seeds[run_id][place] for run_id in ids}) for place in range(3))
        if init == split == 1:
            return "data orders from one initialization" if order > 1 else "one run" if len(ids) == 1 else "runs of one order"
        return "seeds of this split" if split == 1 else "seeds and splits"


def _common(curves: list[Curve]) -> Array:
    """Returns the updates that all curves have."""
    updates = curves[0].updates
    for curve in curves[1:]:
        updates = np.intersect1d(updates, curve.updates)
    return updates


def _values(curve: Curve, updates: Array) -> Array:
    return curve.values[np.isin(curve.updates, updates)]
