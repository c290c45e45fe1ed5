"""How good the prediction was: device seconds predicted before training against those that results record, by cell and in total."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapbench.core.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd

BUCKETS = ("train_seconds", "evaluation_seconds", "other_seconds")


@dataclass(frozen=True)
class Price:
    """Of the runs of a cell, or of all, that ended ok and have both."""

    name: str
    runs: int
    predicted_seconds: float
    actual_seconds: float
    """Training, evaluation and everything else."""

    @property
    def ratio(self) -> float | None:
        """Actual by predicted; None where nothing was predicted."""
        return self.actual_seconds / self.predicted_seconds if self.predicted_seconds > 0.0 else None


def prices(runs: pd.DataFrame, run_ids: Collection[str] | None = None) -> tuple[Price, ...]:
    """Returns predicted and actual device seconds of every cell, in table order, and, as the last one, of all of them.

    A run that several cells share counts in each of them, and once in the total. Cells of which no run can be compared are left out.

    Args:
        runs: the run table.
        run_ids: only these; default: all.
    """
    if "predicted_seconds" not in runs:  # a table from before predictions were kept
        return (Price("all", 0, 0.0, 0.0),)
    both = runs[(runs.outcome == Outcome.OK.value) & runs.predicted_seconds.notna() & runs[list(BUCKETS)].notna().all(axis=1)]
    if run_ids is not None:
        both = both[both.run_id.isin(list(run_ids))]
    cells = [_price(str(cell), members) for (_, cell), members in both.groupby(["cell_order", "cell"])]
    return (*cells, _price("all", both.drop_duplicates("run_id")))


def _price(name: str, runs: pd.DataFrame) -> Price:
    actual = math.fsum(float(value) for bucket in BUCKETS for value in runs[bucket])
    return Price(name, len(runs), math.fsum(float(value) for value in runs.predicted_seconds), actual)
