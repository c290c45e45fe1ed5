"""Cells with several rates that tuning could not tell apart: the gap holds every pair of them, and none is a row of its own."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pandas as pd
import pytest

from gapbench.analysis import arms_table
from gapbench.analysis.cells import cell_difference, read_panels, widest
from gapbench.analysis.formats import GAP, VERDICT
from gapbench.analysis.stats import Difference, difference
from tests.analysis.synthetic import row_of

ARMS = ["SB", "LB", "LB+LR"]


def with_alternative(
    synthetic: ModuleType, to: str, accuracy: float, rate: float, *, missing: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three arms at tuned rates, and another rate of one of them, `accuracy` above it."""
    runs, curves = synthetic.digits_suite(only=ARMS)
    runs["learning_rate_rule"], runs["alternative_to"] = "tuned", ""
    other = runs[runs["cell"] == to].copy()
    other["cell"] = other["arm"] = f"{to}, rate {rate:g}"
    other["test_accuracy"] += accuracy
    other = other.assign(alternative_to=to, learning_rate=rate, reference_cell=False, cell_order=20)
    other["run_id"] = [f"{name}-other" for name in other["run_id"]]
    other.loc[other.index[:missing], "outcome"] = "interrupted"
    return pd.concat([runs, other], ignore_index=True), curves


def test_a_gap_holds_those_of_every_pair_and_its_estimate_is_that_of_the_best_rates(synthetic: ModuleType) -> None:
    runs, curves = with_alternative(synthetic, "LB", 0.004, 0.4)
    table = arms_table(runs, curves)
    assert [row.cell.name for row in table.rows] == ARMS
    (panel,) = read_panels(runs)
    reference, cell, other = panel.cells[0], panel.cells[1], panel.alternatives[0]
    own, others = (cell_difference(reference, choice, panel.metric) for choice in (cell, other))
    gap = row_of(table, "LB").batch_gap
    assert gap is not None
    assert own is not None
    assert others is not None
    assert (gap.estimate, gap.high, gap.low, gap.p_value) == (own.estimate, own.high, others.low, others.p_value)
    assert others.low is not None
    assert own.low is not None
    assert others.low < own.low
    assert row_of(table, "LB").alternatives[0].name == other.name == "LB, rate 0.4"
    assert table.cells(row_of(table, "LB"), (VERDICT,)) == ("below reference",)
    assert "tuned (0.1 to 0.4)" in " ".join(table.cells(row_of(table, "LB"), table.columns))
    assert table.frame().set_index("cell")["alternatives"].to_dict() == {"SB": 0, "LB": 1, "LB+LR": 0}
    assert any("could not tell some rates from the best one" in note for note in table.notes)


def test_a_cell_whose_verdict_changes_within_its_rates_has_none(synthetic: ModuleType) -> None:
    best = arms_table(*synthetic.digits_suite(only=ARMS))
    assert row_of(best, "LB").verdict == "below reference"
    row = row_of(arms_table(*with_alternative(synthetic, "LB", 0.0165, 0.4)), "LB")
    assert row.verdict == "not separated"
    assert row.p_holm == 1.0
    assert (row.power, row.share_closed) == (None, None)


def test_the_alternatives_of_the_reference_count_for_every_cell(synthetic: ModuleType) -> None:
    table = arms_table(*with_alternative(synthetic, "SB", -0.01, 0.4))
    assert [len(row.alternatives) for row in table.rows] == [1, 1, 1]
    assert row_of(table, "LB+LR").verdict == "not separated"
    assert table.cells(row_of(table, "LB+LR"), (GAP,)) == ("0.82 (−0.41 to 1.06)",)


def test_an_alternative_that_has_not_ended_leaves_no_verdict(synthetic: ModuleType) -> None:
    row = row_of(arms_table(*with_alternative(synthetic, "LB", 0.004, 0.4, missing=2)), "LB")
    assert row.verdict.startswith("no verdict (LB, rate 0.4: 6 ok of 8")


def test_an_alternative_of_which_a_run_diverged_is_none(synthetic: ModuleType) -> None:
    runs, curves = with_alternative(synthetic, "LB", 0.0165, 0.4)
    runs.loc[(runs["cell"] == "LB, rate 0.4") & (runs["seed"] == 0), "outcome"] = "diverged"
    row = row_of(arms_table(runs, curves), "LB")
    assert (row.alternatives, row.verdict) == ((), "below reference")


def one(estimate: float, low: float | None = None, high: float | None = None, p_value: float | None = None) -> Difference:
    return Difference(estimate, low, high, p_value, "welch", 3)


def test_the_widest_of_differences() -> None:
    above, more, below = one(1.0, 0.5, 1.5, 0.01), one(2.0, 0.9, 3.1, 0.02), one(-0.2, -0.5, 0.1, 0.001)
    assert widest([above]) == above
    assert widest([above, more]) == replace(above, high=3.1, p_value=0.02)
    assert widest([above, below]) == replace(above, low=-0.5, p_value=1.0)
    assert widest([above, None]) is None
    assert widest([above, one(1.0)]) == replace(above, low=None, high=None, p_value=None)
    assert widest([above, one(1.0, 1.0, 1.0)]) == replace(above, p_value=None)
    found = difference({1: 1.0, 2: 2.0}, {1: 0.0, 2: 0.5}, paired=False)
    assert widest([found, found]) == found


@pytest.mark.parametrize("name", ["SB", "LB"])
def test_an_alternative_without_its_cell_is_a_row_of_its_own(synthetic: ModuleType, name: str) -> None:
    runs, curves = with_alternative(synthetic, name, 0.004, 0.4)
    table = arms_table(runs[runs["cell"] != name].copy(), curves)
    assert f"{name}, rate 0.4" in [row.cell.name for row in table.rows]
