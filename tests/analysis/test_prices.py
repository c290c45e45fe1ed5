"""How good the prediction was is a function of the run table."""

from __future__ import annotations

import pandas as pd
import pytest

from gapbench.analysis.environment import prices


def row(run_id: str, cell: str, predicted: float | None, actual: float | None, outcome: str = "ok", order: int = 0) -> dict[str, object]:
    train = None if actual is None else actual - 1.5
    return {
        "run_id": run_id,
        "cell": cell,
        "cell_order": order,
        "outcome": outcome,
        "predicted_seconds": predicted,
        "train_seconds": train,
        "evaluation_seconds": 1.0,
        "other_seconds": 0.5,
    }


TABLE = pd.DataFrame(
    [
        row("a", "SB", 10.0, 12.0, order=1),
        row("b", "SB", 10.0, 8.0, order=1),
        row("c", "LB", 4.0, 6.0),
        row("c", "LB again", 4.0, 6.0, order=2),  # one run under two labels
        row("d", "LB", 4.0, 90.0, outcome="diverged"),
        row("e", "LB", None, 90.0),
        row("f", "LB", 4.0, None),
    ]
)


def test_cells_come_in_table_order_and_the_total_counts_each_run_once():
    found = prices(TABLE)
    assert [(price.name, price.runs) for price in found] == [("LB", 1), ("SB", 2), ("LB again", 1), ("all", 3)]
    assert (found[-1].predicted_seconds, found[-1].actual_seconds) == pytest.approx((24.0, 26.0))
    assert found[0].ratio == pytest.approx(1.5)


def test_only_some_runs_can_be_asked_for():
    assert [price.runs for price in prices(TABLE, {"a"})] == [1, 1]


def test_where_nothing_was_predicted_there_is_nothing_to_compare():
    (total,) = prices(TABLE[TABLE.run_id == "e"])
    assert (total.runs, total.ratio) == (0, None)
    assert prices(TABLE.drop(columns="predicted_seconds")) == (total,)
