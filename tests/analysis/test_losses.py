"""Cells that are compared by test loss have their verdicts by the rules of all others, worded for what is worse when it is higher."""

from __future__ import annotations

import math
from types import ModuleType

import pandas as pd
import pytest
from scipy import stats

from gapbench.analysis import arms_table
from gapbench.analysis.stats import holm
from gapbench.report.latex import arms_latex
from gapbench.report.tables import arms_markdown
from tests.analysis.synthetic import row_of

ACCURACIES = ["test_accuracy", "train_accuracy", "validation_accuracy", "test_correct"]


def unlabelled(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same runs as of models that classify nothing."""
    runs = runs.assign(**dict.fromkeys(ACCURACIES))
    return runs, curves[~curves["metric"].str.contains("accuracy")]


def of_losses(synthetic: ModuleType, seeds: int = 8, **changes: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Arms whose third has the reference's test loss, but for what seeds do."""
    runs, curves = unlabelled(*synthetic.digits_suite(seeds, only=["SB", "LB", "LB+LR", "LB+LR+GBN", "LB+LR+GBN+RA"], **changes))
    runs.loc[runs["cell"] == "LB+LR+GBN", "test_loss"] *= 0.085 / 0.092
    return runs, curves


def test_a_higher_loss_is_worse_and_judged_together_with_all_others(synthetic: ModuleType) -> None:
    runs, curves = of_losses(synthetic)
    table = arms_table(runs, curves)
    assert {row.cell.name: row.verdict for row in table.rows} == {
        "SB": "reference",
        "LB": "loss above reference",
        "LB+LR": "loss above reference",
        "LB+LR+GBN": "not separated",
        "LB+LR+GBN+RA": "loss below reference",
    }
    losses = {name: own.sort_values("seed")["test_loss"].to_numpy(dtype=float) for name, own in runs.groupby("cell")}
    names = [row.cell.name for row in table.rows[1:]]
    p_values = [float(stats.ttest_rel(losses[name], losses["SB"]).pvalue) for name in names]
    assert table.comparisons == len(names)
    assert [row_of(table, name).p_holm for name in names] == pytest.approx(holm(p_values))
    assert all(row.share_closed is None for row in table.rows)  # shares are of accuracies


def test_sentences_say_which_loss_is_higher_with_the_sign_of_the_words(synthetic: ModuleType) -> None:
    table = arms_table(*of_losses(synthetic))
    answer, head, *rest = table.verdict
    assert head == "digits, mlp, recipe digits: n = 8 in every cell; 95 % intervals over splits."
    gap = row_of(table, "LB").batch_gap
    assert gap.low is not None
    assert gap.high is not None
    assert answer.startswith(
        f"At equal examples and the same rate, batch 512 (LB) has a test loss higher by {gap.estimate:.4f} nats than batch 16 (SB) "
        f"(95 % interval {gap.low:.4f} to {gap.high:.4f}; n = 8). "
    )
    assert any("LB+LR+GBN is not separated from SB (test loss " in sentence for sentence in rest)
    lower = row_of(table, "LB+LR+GBN+RA").batch_gap
    assert lower.high < 0
    (sentence,) = (text for text in rest if "LB+LR+GBN+RA " in text)
    assert f"has a test loss lower by {-lower.estimate:.4f} nats than SB (95 % interval {-lower.high:.4f} to " in sentence
    assert not any(" pp" in text or "accuracy" in text for text in table.verdict)


def test_many_cells_are_counted_by_loss(synthetic: ModuleType) -> None:
    verdict = arms_table(*unlabelled(*synthetic.grid_suite())).verdict
    assert verdict[2].startswith("Of 19 cells, ")
    assert " with test loss above B 128, baseline" in verdict[2]
    assert not any("probability" in sentence for sentence in verdict)  # no size of a gap in nats is asked for


def test_what_cannot_be_judged_says_why_and_one_seed_tells_its_difference(synthetic: ModuleType) -> None:
    table = arms_table(*of_losses(synthetic, diverged=[("LB", 1)]))
    assert row_of(table, "LB").verdict == "no verdict (7 ok of 8, 1 diverged)"
    assert "No verdict on LB (7 ok of 8, 1 diverged)." in table.verdict
    single = arms_table(*of_losses(synthetic, 1))
    assert row_of(single, "LB").verdict == "no verdict (one seed)"
    assert "batch 512 (LB) reaches 0." in single.verdict[0]
    assert "(one seed, no interval)" in single.verdict[0]
    assert "higher" not in single.verdict[0]


def test_notes_and_columns_give_power_in_nats(synthetic: ModuleType) -> None:
    table = arms_table(*of_losses(synthetic))
    row = row_of(table, "LB+LR+GBN")
    assert row.power.chance is None
    (note,) = (note for note in table.notes if note.startswith("Power"))
    digits = 1 - math.floor(math.log10(row.power.smallest_gap))
    assert f"LB+LR+GBN {row.power.smallest_gap:.{digits}f} nats (not separated)" in note
    assert " pp" not in note
    assert any("by Holm's procedure over the 4 comparisons" in note and "Matched-loss" not in note for note in table.notes)
    frame = table.frame().set_index("cell")
    assert frame.loc["LB+LR+GBN", "batch_gap_nats_seen_with_80_percent"] == row.power.smallest_gap
    assert frame.loc["LB", "batch_gap_n"] == 8
    assert frame.loc["LB", "batch_gap_nats_error"] == row_of(table, "LB").batch_gap.error
    assert frame["batch_gap_pp_seen_with_80_percent"].isna().all()
    assert frame["batch_gap_chance_of_1_pp"].isna().all()


def test_welch_on_few_seeds_is_said_to_be_inexact_of_losses_too(synthetic: ModuleType) -> None:
    notes = arms_table(*unlabelled(*synthetic.grid_suite(3, (128, 4096)))).notes
    assert any("At n = 3 Welch's test is inexact" in note and "Here they have " in note for note in notes)


def test_tables_of_both_kinds_are_one_family(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite()
    plain = runs["cell"].isin(["SB no norm", "LB no norm"])
    runs.loc[plain, ["test_accuracy", "train_accuracy", "test_correct"]] = None
    own = set(runs.loc[plain, "run_id"])
    table = arms_table(runs, curves[~(curves["run_id"].isin(own) & curves["metric"].str.contains("accuracy"))])
    assert table.comparisons == 6
    assert row_of(table, "LB no norm").verdict == "loss above reference"
    assert row_of(table, "LB").verdict == "below reference"
    (note,) = (note for note in table.notes if note.startswith("Power"))
    assert "LB no norm 0.0" in note
    text = arms_latex("mine", table)
    assert r"$\downarrow$ below the reference" in text
    assert "$+$ test loss above the reference's" in text
    assert "| loss above reference |" in arms_markdown("mine", table)
