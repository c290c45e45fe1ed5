"""The arms table in words: its sentences and its notes."""

from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from gapbench.analysis import Estimate, arms_table
from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import estimate_text, loss, range_text, signed
from gapbench.analysis.notes import METRIC, noise_notes


def test_the_answer_says_how_much_is_lost_and_what_closes_it(synthetic: ModuleType) -> None:
    first, second = arms_table(*synthetic.digits_suite()).verdicts
    assert first.answer.startswith("At equal examples and the same rate, batch 512 (LB) loses 1.")
    assert " against batch 16 (SB) (95 % interval " in first.answer
    assert first.answer.endswith("Better than SB: LB+LR+GBN+RA; not separated from SB: LB+LR+GBN; still worse: LB+LR.")
    assert first.scope == "n = 8 in every cell; 95 % intervals over splits"
    assert "LB no norm" in second.answer
    assert first.cautions[0].startswith("No rate was tuned for a batch size: LB ends at 18 times SB's train loss")
    assert len(first.cautions) <= 3
    assert not any(len(sentence.split()) > 40 for one in (first, second) for text in one.details for sentence in text.split(". "))


def test_tuned_gaps_are_the_answer_and_come_first_at_every_budget(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(only=["SB", "LB", "LB+LR"])
    tuned = runs[runs["cell"] == "LB+LR"].assign(cell="LB tuned", arm="LB tuned", learning_rate_rule="tuned", cell_order=9)
    longer = tuned.assign(cell="LB tuned RA", arm="LB tuned RA", planned_updates=1687, cell_order=10)
    (found,) = arms_table(pd.concat([runs, tuned, longer]), curves).verdicts
    assert found.answer.startswith("At equal examples and tuned rates, batch 512 (LB tuned) loses")
    assert found.details[0].startswith("With a tuned rate and the same number of updates (32 × examples), LB tuned RA ")
    assert not any("No rate was tuned" in caution for caution in found.cautions)


def test_only_what_holm_judged_gets_words_of_a_verdict(synthetic: ModuleType) -> None:
    words = ("loses", "gains", "separated", "better", "worse", "below", "above", "higher", "lower")
    (found,) = arms_table(*synthetic.digits_suite(only=["SB", "LB"])).verdicts
    (matched,) = [sentence for sentence in found.details if sentence.startswith("At equal train loss")]
    assert "test accuracy of SB minus that of LB: " in matched
    assert matched.endswith(" n = 8, not adjusted for the other comparisons.")
    assert not any(word in matched for word in words)
    (single,) = arms_table(*synthetic.digits_suite(1, only=["SB", "LB"])).verdicts
    assert "batch 512 (LB) reaches 9" in single.answer
    assert not any(word in single.answer for word in words)


def test_a_fixed_split_is_said(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.grid_suite())
    assert table.verdict[1].endswith("n = 3 in every cell; 95 % intervals over seeds, for this split.")
    assert "it says nothing about another split" in table.notes[0]
    assert "Welch" in table.notes[0]


def test_intervals_are_said_to_be_pointwise_and_verdicts_to_hold_together(synthetic: ModuleType) -> None:
    note = arms_table(*synthetic.digits_suite()).notes[0]
    assert note.startswith("Each interval is pointwise: 95 % by itself, Student t over seeds")
    assert "Verdicts, unlike intervals, hold at 5 % together, by Holm's procedure over the 6 comparisons of this table" in note
    assert "Matched-loss gaps and intervals over test examples stand outside that procedure" in note


def test_few_seeds_at_a_fixed_split_are_said_to_be_inexact(synthetic: ModuleType) -> None:
    def told(tables: tuple[pd.DataFrame, pd.DataFrame]) -> list[str]:
        return [note for note in arms_table(*tables).notes if "Welch's test is inexact" in note]

    (note,) = told(synthetic.grid_suite(3, (128, 4096)))
    assert note.startswith("At n = 3 ")
    assert "Here they have " in note
    assert told(synthetic.grid_suite(6, (128, 4096))) == []
    assert told(synthetic.digits_suite(3)) == []  # pairs are exact


def test_many_cells_are_counted_instead_of_listed(synthetic: ModuleType) -> None:
    verdict = arms_table(*synthetic.grid_suite()).verdict
    assert verdict[0].startswith("At equal examples and the same rate, B 4096, baseline loses ")
    assert " Of the 5 other cells of batch 4096, " in verdict[0]
    assert verdict[2].startswith("Of 19 cells, ")
    assert "below B 128, baseline" in verdict[2]
    assert len(verdict) < 15


def test_train_losses_say_what_part_may_be_optimization(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(only=["SB", "LB"])

    def caution() -> str:
        return arms_table(runs, curves).verdicts[0].cautions[0]

    assert " times SB's train loss, so part of the gap may be optimization." in caution()
    runs["train_loss"] = 0.01
    assert caution().endswith("LB ends at about the train loss of SB.")
    runs.loc[runs["cell"] == "LB", "train_loss"] = 0.001
    assert caution().endswith("LB ends at a lower train loss than SB.")


def test_one_seed_is_said_and_never_called_separated_or_not(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.digits_suite(1, only=["SB", "LB"]))
    text = " ".join(table.verdict)
    assert "no interval from one seed" in text
    assert "not separated" not in text
    assert table.notes[0] == "There is no interval from one seed, and so no verdict."


def test_cells_without_verdict_are_named_with_their_reason(synthetic: ModuleType) -> None:
    verdict = arms_table(*synthetic.digits_suite(diverged=[("LB", 1)])).verdict
    assert "No verdict on LB (7 ok of 8, 1 diverged)." in verdict
    assert not any("As in the paper" in sentence and "(LB) " in sentence for sentence in verdict)


def test_a_suite_of_its_reference_alone_has_nothing_to_compare(synthetic: ModuleType) -> None:
    alone = arms_table(*synthetic.digits_suite(3, only=["SB"])).verdict
    assert alone[0] == "There is only the reference cell, so there is nothing to compare."
    without = arms_table(*synthetic.digits_suite(3, only=["LB"])).verdict
    assert without[0] == "There is no reference cell among these runs, so there is no batch gap and no verdict."


def test_late_clipping_is_noted(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB", "LB"])
    runs.loc[runs["cell"] == "LB", "clipped_share_late"] = 0.034
    notes = arms_table(runs, curves).notes
    assert any(note.startswith("LB: the gradient was clipped in 3.4 % of the updates after the first 5 %") for note in notes)


def test_missing_matched_loss_gaps_are_explained_in_the_notes(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB", "LB"])
    table = arms_table(runs, curves.iloc[:0])
    assert "No matched-loss gap for LB: no curves of train loss and test accuracy." in table.notes
    assert table.cells(table.rows[1])[table.columns.index("matched-loss gap, pp")] == "NA"


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(1.234, 2, "1.23"), (-1.234, 2, "−1.23"), (-0.001, 2, "0.00"), (0.0, 1, "0.0"), (-0.06, 1, "−0.1")]
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value: float, digits: int, text: str) -> None:
    assert signed(value, digits) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.12345, 0.121, 0.1262, 3), "0.123 ± 0.003"),
        (Estimate(0.00103, None, None, 1), "0.00103"),
        (Estimate(0.0000123, 0.00001, 0.0000146, 3), "1.23e-05 ± 2.3e-06"),
        (Estimate(2.3, None, None, 1), "2.30"),
        (Estimate(0.0, 0.0, 0.0, 2), "0.00 ± 0.00"),
        (None, ""),
    ],
)
def test_losses_have_three_significant_digits(estimate: Estimate | None, text: str) -> None:
    assert loss(estimate) == text


def test_intervals_are_written_as_ranges_or_half_widths() -> None:
    assert range_text(-0.5, 1.25, 2) == "−0.50 to 1.25"
    assert estimate_text(Estimate(0.9787, 0.9764, 0.981, 8), 100, 2) == "97.87 ± 0.23"


def tables(synthetic: ModuleType) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame([synthetic.run_row("LB+noise", seed, batch_size=512) for seed in range(3)])
    values = [(row, update, value + 0.1 * seed) for seed, row in enumerate(runs["run_id"]) for update, value in ((5, 0.9), (26, 1.1))]
    return runs, pd.DataFrame([synthetic.point(run, update, METRIC, value) for run, update, value in values])


def test_the_measured_ratio_is_a_mean_over_training_with_an_interval_over_seeds(synthetic: ModuleType) -> None:
    runs, curves = tables(synthetic)
    (note,) = noise_notes(read_panels(runs)[0].cells, Curves(curves))
    assert note.endswith("which is 1 where noise does what it is for: LB+noise 1.10 ± 0.25.")
    assert note in arms_table(runs, curves).notes


def test_suites_without_noise_have_no_such_note(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(2)
    assert noise_notes([cell for panel in read_panels(runs) for cell in panel.cells], Curves(curves)) == []
