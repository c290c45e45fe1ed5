from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gapbench.analysis import ArmsTable, arms_table, t_interval
from tests.analysis.synthetic import row_of


def verdicts(table: ArmsTable) -> dict[str, str]:
    return {row.cell.name: row.verdict for row in table.rows}


def test_digits_like_arms_get_their_verdicts(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.digits_suite())
    assert verdicts(table) == {
        "SB": "reference",
        "LB": "below reference",
        "LB+LR": "below reference",
        "LB+LR+GBN": "not separated",
        "LB+LR+GBN+RA": "above reference",
        "SB+4x": "above reference",
        "SB no norm": "reference",
        "LB no norm": "below reference",
    }


def test_gaps_are_paired_where_seeds_draw_splits(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite()
    row = row_of(arms_table(runs, curves), "LB")
    small, large = (100 * runs[runs["cell"] == name].sort_values("seed")["test_accuracy"].to_numpy(dtype=float) for name in ("SB", "LB"))
    expected = stats.ttest_rel(small, large)
    low, high = expected.confidence_interval(0.95)
    assert (row.batch_gap.method, row.batch_gap.n) == ("paired", 8)
    found = (row.batch_gap.estimate, row.batch_gap.low, row.batch_gap.high, row.batch_gap.p_value)
    assert found == pytest.approx((np.mean(small - large), low, high, expected.pvalue))


def test_gaps_are_welchs_where_all_seeds_share_a_split(synthetic: ModuleType) -> None:
    runs, curves = synthetic.grid_suite()
    row = row_of(arms_table(runs, curves), "B 4096, baseline")
    small, large = (
        100 * runs[runs["cell"] == name]["test_accuracy"].to_numpy(dtype=float) for name in ("B 128, baseline", "B 4096, baseline")
    )
    assert row.batch_gap.method == "welch"
    assert row.batch_gap.p_value == pytest.approx(stats.ttest_ind(small, large, equal_var=False).pvalue)


def test_verdicts_hold_together_over_all_cells_of_the_table(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.grid_suite())
    judged = [row for row in table.rows if row.p_holm is not None]
    assert table.comparisons == len(judged) == 19
    p_values = sorted(row.batch_gap.p_value for row in judged if row.batch_gap and row.batch_gap.p_value is not None)
    rejected = next((rank for rank, p in enumerate(p_values) if p * (19 - rank) > 0.05), 19)
    assert sum(row.separated for row in judged) == rejected
    alone = sum(p <= 0.05 for p in p_values)
    assert rejected < alone  # some cells differ by themselves and not among nineteen


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"diverged": [("LB+LR", 2)]}, {"LB+LR": "no verdict (7 ok of 8, 1 diverged)", "LB": "below reference"}),
        ({"missing": [("LB", 2), ("LB", 3)]}, {"LB": "no verdict (6 ok of 8, 2 not started)", "LB+LR": "below reference"}),
        ({"missing": [("SB", 0)]}, {"SB": "reference", "LB": "no verdict (SB: 7 ok of 8, 1 not started)", "LB no norm": "below reference"}),
        ({"seeds": 1}, {"SB": "reference", "LB": "no verdict (one seed)"}),
        ({"only": ["LB", "LB+LR"]}, {"LB": "no verdict (no reference cell)"}),
    ],
)
def test_what_cannot_be_judged_says_why(synthetic: ModuleType, changes: dict[str, Any], expected: dict[str, str]) -> None:
    found = verdicts(arms_table(*synthetic.digits_suite(**changes)))
    assert {name: found[name] for name in expected} == expected


def test_an_incomplete_cell_shows_its_numbers_but_closes_no_share_and_counts_in_no_correction(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(diverged=[("LB+LR", 2)])
    table = arms_table(runs, curves)
    row = row_of(table, "LB+LR")
    assert row.test_accuracy.n == 7
    assert (row.p_holm, row.share_closed) == (None, None)
    assert table.comparisons == 5
    own = runs[(runs["cell"] == "LB+LR") & (runs["outcome"] == "ok")]["test_accuracy"].to_numpy(dtype=float)
    assert row.test_accuracy == t_interval(own)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [("test_accuracy", 0.9, "no spread between seeds"), ("split_seed", [0, 1, 100, 101], "no seed in common")],
)
def test_seeds_without_spread_or_of_other_splits_give_no_verdict(synthetic: ModuleType, column: str, value: Any, why: str) -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB", "LB"])
    assert verdicts(arms_table(runs.assign(**{column: value}), curves))["LB"] == f"no verdict ({why})"


def test_share_closed_is_of_the_baseline_of_the_same_batch_size(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite()
    table = arms_table(runs, curves)
    mean = runs.groupby("cell")["test_accuracy"].mean()
    row = row_of(table, "LB+LR")
    assert row.share_baseline == "LB"
    assert row.share_closed.estimate == pytest.approx((mean["LB+LR"] - mean["LB"]) / (mean["SB"] - mean["LB"]))
    for name in ("SB", "LB", "SB+4x"):  # a baseline closes nothing, and at the reference batch size there is no gap to close
        assert row_of(table, name).share_closed is None


def test_no_share_of_a_gap_that_is_not_separated(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite()
    runs.loc[runs["cell"] == "LB", "test_accuracy"] = runs.loc[runs["cell"] == "LB+LR+GBN", "test_accuracy"].to_numpy()
    table = arms_table(runs, curves)
    assert verdicts(table)["LB"] == "not separated"
    assert all(row.share_closed is None for row in table.rows)


def test_beyond_the_whole_gap_the_table_says_above_the_reference(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.digits_suite())
    column = table.columns.index("share of gap closed")
    row = row_of(table, "LB+LR+GBN+RA")
    assert row.share_closed.estimate > 1
    assert table.cells(row)[column] == "above SB"


def test_columns_that_say_nothing_are_left_out_and_a_terminal_has_fewer(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.digits_suite(2))
    assert "paper, %" not in table.columns  # there is no paper of digits
    assert set(table.short_columns) < set(table.columns)


def test_train_test_gap_is_over_the_runs_own_differences(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite()
    own = runs[runs["cell"] == "LB"]
    row = row_of(arms_table(runs, curves), "LB")
    expected = t_interval((100 * (own["train_accuracy"] - own["test_accuracy"])).to_numpy(dtype=float))
    assert row.train_test_gap_pp.mean == pytest.approx(expected.mean)
    assert row.train_test_gap_pp.half_width == pytest.approx(expected.half_width)


def test_tidy_frame_holds_fractions_and_percentage_points(synthetic: ModuleType) -> None:
    frame = arms_table(*synthetic.digits_suite()).frame().set_index("cell")
    assert frame["test_accuracy"].between(0, 1).all()
    assert frame.loc["LB", "batch_gap_pp"] == pytest.approx(100 * (frame.loc["SB", "test_accuracy"] - frame.loc["LB", "test_accuracy"]))
    assert frame.loc["LB+LR+GBN+RA", "share_closed"] > 1
    assert frame.loc["LB", "batch_gap_budget"] == "equal examples"
    assert frame.loc["LB+LR", "batch_gap_learning_rate"] == "by rule sqrt"
    assert frame["ghost_batch_size"].dtype == "Int64"


def test_no_runs_at_all_give_an_empty_table(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(1)
    table = arms_table(runs.iloc[:0], curves.iloc[:0])
    assert table.rows == ()
    assert table.verdict == ["No run is planned."]
    assert table.frame().empty


def test_importing_the_analysis_imports_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "scipy", "matplotlib", "pyarrow")
    code = f"import sys, gapbench.analysis; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_curves_without_an_ok_run_do_not_count(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(2, missing=[(name, seed) for name in synthetic.arms() for seed in (0, 1)])
    table = arms_table(runs, curves)
    assert all(row.test_accuracy is None for row in table.rows)
    assert table.verdict == [
        "No run is ok yet, so there is nothing to compare.",
        "digits, mlp (norm batch), recipe digits: no run is ok yet.",
        "digits, mlp (norm none), recipe digits: no run is ok yet.",
    ]
    assert isinstance(table.frame(), pd.DataFrame)
