from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from gapbench.analysis.comparison import Results

COLUMNS = ("dataset", "model", "batch_size", "ghost_batch_size", "learning_rate", "planned_updates")


@pytest.fixture
def side() -> Callable[..., Results]:
    """Makes one side of a comparison from a runs table; its values are those of the table's columns."""

    def make(runs: pd.DataFrame, name: str = "results") -> Results:
        values: dict[str, dict[str, Any]] = {}
        for row in runs.to_dict("records"):
            values[row["cell"]] = {column: row[column] for column in COLUMNS if not pd.isna(row[column])}
        return Results(name, "quickstart", runs, values)

    return make
