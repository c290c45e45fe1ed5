"""A cell whose very runs another one has, such as a cell of the grid that is also an arm, is said to be that one."""

from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from gapbench.analysis import arms_table
from gapbench.analysis.formats import GAP, SHARE, VERDICT
from tests.analysis.synthetic import row_of


def with_grid(synthetic: ModuleType, *, grid_first: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four arms, and a grid of two batch sizes that trains SB and LB again under its own names."""
    runs, curves = synthetic.digits_suite(only=["SB", "LB", "LB+LR", "LB+LR+GBN"])
    names = {"SB": "B 16", "LB": "B 512"}
    again = [
        runs[runs["cell"] == arm].assign(cell=name, arm="", reference_cell=False, cell_order=-1 if grid_first else 20)
        for arm, name in names.items()
    ]
    return pd.concat([runs, *again], ignore_index=True), curves


@pytest.mark.parametrize("grid_first", [False, True], ids=["arms first", "grid first"])
def test_the_reference_under_another_name_has_no_gap_and_no_verdict(synthetic: ModuleType, grid_first: bool) -> None:
    table = arms_table(*with_grid(synthetic, grid_first=grid_first))
    row = row_of(table, "B 16")
    assert (row.same_runs_as, row.batch_gap, row.matched_loss) == ("SB", None, None)
    assert table.cells(row, (GAP, VERDICT, SHARE)) == ("", "no verdict (same runs as SB)", "")
    assert table.frame().set_index("cell")["same_runs_as"].dropna().to_dict() == (
        {"B 16": "SB", "LB": "B 512"} if grid_first else {"B 16": "SB", "B 512": "LB"}
    )


def test_the_baseline_under_another_name_closes_no_share_and_says_which_it_is(synthetic: ModuleType) -> None:
    table = arms_table(*with_grid(synthetic))
    row, arm = row_of(table, "B 512"), row_of(table, "LB")
    assert row.share_closed is None
    assert table.cells(row, (VERDICT, SHARE)) == ("below reference", "same runs as LB")
    assert table.cells(row, (GAP,)) == table.cells(arm, (GAP,))
    assert table.cells(arm, (SHARE,)) == ("",)
    closed = row_of(table, "LB+LR").share_closed
    assert closed is not None
    assert closed == row_of(arms_table(*synthetic.digits_suite(only=["SB", "LB", "LB+LR", "LB+LR+GBN"])), "LB+LR").share_closed


def test_sentences_tell_the_same_runs_once(synthetic: ModuleType) -> None:
    verdict = arms_table(*with_grid(synthetic)).verdict
    assert "The very same runs under another name: B 16 (those of SB) and B 512 (those of LB)." in verdict
    assert sum("B 512" in sentence or "B 16" in sentence for sentence in verdict) == 1


def test_the_same_runs_held_against_another_cell_are_another_comparison(synthetic: ModuleType) -> None:
    runs, curves = with_grid(synthetic)
    runs["reference"] = ""
    runs.loc[runs["cell"] == "B 512", "reference"] = "LB+LR"
    table = arms_table(runs, curves)
    row = row_of(table, "B 512")
    assert row.same_runs_as == ""
    assert row.reference.name == "LB+LR"
    assert row.p_holm is not None


def test_a_tuned_rate_that_is_the_untouched_one_is_told_as_tuned_and_closes_nothing(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(only=["SB", "LB", "LB+LR"])
    tuned = runs[runs["cell"] == "LB"].assign(cell="LB tuned", arm="LB tuned", learning_rate_rule="tuned", cell_order=9)
    table = arms_table(pd.concat([runs, tuned], ignore_index=True), curves)
    assert table.verdict[0].startswith("At equal examples and tuned rates, batch 512 (LB tuned) loses ")
    assert "The very same runs under another name: LB tuned (those of LB)." in table.verdict
    assert table.cells(row_of(table, "LB tuned"), (SHARE,)) == ("same runs as LB",)
