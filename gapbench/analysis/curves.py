"""Curves of `curves.parquet` by metric and run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Curve:
    """One metric of one run against the update count, increasing, finite values only."""

    updates: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


class Curves:
    """Looks up curves by metric. Holds the long table as it is and cuts out one metric at a time."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self._cut: dict[tuple[str, str], dict[str, Curve]] = {}

    def of(self, metric: str, layer: str = "") -> dict[str, Curve]:
        """Returns the curves of a metric by run id; `layer` is empty for the whole network. Runs without the metric are left out."""
        key = metric, layer
        if key not in self._cut:
            self._cut[key] = self._read(metric, layer)
        return self._cut[key]

    def _read(self, metric: str, layer: str) -> dict[str, Curve]:
        table = self._table
        if table.empty:
            return {}
        rows = table[(table["metric"] == metric) & (table["layer"].fillna("") == layer)]
        rows = rows.sort_values(["run_id", "update"], kind="stable").drop_duplicates(["run_id", "update"], keep="last")
        found = {}
        for run_id, group in rows.groupby("run_id", observed=True):
            updates = group["update"].to_numpy(dtype=np.float64)
            values = group["value"].to_numpy(dtype=np.float64, na_value=np.nan)
            finite = np.isfinite(values)
            if finite.any():
                found[str(run_id)] = Curve(updates[finite], values[finite])
        return found
