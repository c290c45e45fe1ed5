"""Tables of walks that are known: drift a logarithm, spread a free walk of known strength, in 64 dimensions that stand for the buckets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gapbench.suite.runspec import Phase, RunSpec
from tests.analysis import synthetic
from tests.small import make_spec

WIDTH = 64
UPDATES = np.unique(np.rint(np.geomspace(1, 2000, 67))).astype(int)


class Suite:
    """Collects cells; every cell gets its own random numbers."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.curves: list[pd.DataFrame] = []
        self.specs: dict[str, RunSpec] = {}

    def cell(
        self, name: str, batch_size: int = 16, rate: float = 0.1, *, drift: float = 1.0, spread: float = 0.3, orders: int = 8,
        sketched: bool = True, inits: int = 1, random: int | None = None, aside: float = 0.0, **changes: Any,
    ) -> Suite:  # fmt: skip
        """Adds a cell: mean displacement drift * ln(1 + t), and around it a walk of `spread` * sqrt(t) in all; `aside` parts twins."""
        generator = np.random.default_rng(len(self.rows) if random is None else random)
        direction = np.ones(WIDTH) / np.sqrt(WIDTH)
        for order in range(orders):
            run_id = f"{name}-{order}"
            steps = generator.normal(size=(len(UPDATES), WIDTH)) * np.sqrt(np.diff(np.r_[0, UPDATES]) / WIDTH)[:, None]
            vectors = drift * np.log1p(UPDATES)[:, None] * direction + spread * steps.cumsum(axis=0)
            if aside:
                vectors = vectors + aside * np.sqrt(UPDATES)[:, None] * np.random.default_rng(order).normal(size=WIDTH) / np.sqrt(WIDTH)
            seeds = {"seed": order, "init_seed": order % inits, "order_seed": order}
            fields = {"batch_size": batch_size, "learning_rate": rate, "updates": 2000, "train_examples": 900, **seeds}
            self.specs[run_id] = make_spec(**{"phases": (Phase(),), "weight_decay": 0.0, **fields, **changes})
            self.rows.append(self._row(name, run_id=run_id, learning_rate_rule="set", planned_updates=2000, **fields))
            self._measure(run_id, batch_size, "weight_distance", np.linalg.norm(vectors, axis=1))
            self._measure(run_id, batch_size, "weight_norm", np.sqrt(50**2 + np.square(vectors).sum(axis=1)))
            self._measure(run_id, batch_size, "clipped_share", np.minimum(1, 3 / UPDATES))
            if sketched:
                self._measure(run_id, batch_size, "displacement_sketch", vectors.ravel(), [str(bucket) for bucket in range(WIDTH)])
        return self

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns runs and curves."""
        return synthetic.tables(self.rows, [])[0], pd.concat(self.curves, ignore_index=True)

    def _row(self, name: str, **fields: Any) -> dict[str, Any]:
        order = len({row["cell"] for row in self.rows} | {name})
        fixed = {"reference_cell": name == "SB", "split_seed": 0, "split_drawn": False, "reference_updates": 2000}
        return synthetic.run_row(name, cell_order=order, **fixed, **fields)

    def _measure(self, run_id: str, batch_size: int, metric: str, values: Any, layers: Any = ("",)) -> None:
        """Adds values of [update, layer], in that order."""
        updates = np.repeat(UPDATES, len(layers))
        frame = pd.DataFrame({"update": updates, "examples": updates * batch_size, "value": values})
        self.curves.append(frame.assign(run_id=run_id, metric=metric, layer=[*layers] * len(UPDATES)))


def three_cells() -> Suite:
    """Small batch, large batch, and large batch at a rate by rule whose total is the small batch's and whose spread is half of it."""
    made = Suite().cell("SB").cell("LB", 512, spread=0.3 / 32**0.5)
    return made.cell("LB+LR", 512, 0.1 * 32**0.5, drift=1.6, spread=0.15)
