"""Two results side by side: what is the same is said to be, what is worse is found, what cannot be judged is not."""

from __future__ import annotations

import pandas as pd
import pytest

from gapbench.analysis.comparison import compare_results, published_set, summary, values_by_change
from gapbench.core.errors import UnknownNameError


@pytest.fixture
def digits(synthetic):
    return synthetic.digits_suite(5, only=["SB", "LB", "LB+LR"])[0]


def changed(runs: pd.DataFrame, cell: str, **values: object) -> pd.DataFrame:
    runs = runs.copy()
    for column, value in values.items():
        rows = runs["cell"] == cell
        runs.loc[rows, column] = value(runs.loc[rows, column]) if callable(value) else value
    return runs


def cell(comparison, name):
    return next(one for one in comparison.cells if one.name == name)


def test_results_are_identical_to_themselves(side, digits):
    found = compare_results(side(digits), side(digits.copy()))
    assert {one.verdict for one in found.cells} == {"identical"}
    assert [(one.identical_runs, one.shared_runs) for one in found.cells] == [(5, 5)] * 3
    assert (found.regressions(), found.differences(), found.environment_differences) == ([], [], ())
    assert "all their numbers are exactly equal" in " ".join(summary(found))


def test_one_other_bit_of_one_test_example_is_not_identical(side, digits):
    other = digits.copy()
    other.at[0, "test_correct"] = b"\xfe"
    found = cell(compare_results(side(digits), side(other)), "SB")
    assert (found.identical_runs, found.shared_runs) == (4, 5)
    assert found.verdict == "no verdict (no spread between seeds)"


def test_a_lower_accuracy_is_a_regression_and_a_higher_one_a_difference(side, digits):
    noise = [0.0, 0.001, -0.001, 0.0005, -0.0005]
    worse = changed(digits, "LB", test_accuracy=lambda old: old - 0.02 + noise)
    found = compare_results(side(digits), side(worse))
    assert cell(found, "LB").verdict == "B below A"
    assert cell(found, "LB").accuracy.estimate == pytest.approx(-2.0)
    assert cell(found, "LB").accuracy.method == "paired"
    assert [text.partition(":")[0] for text in found.regressions()] == ["LB"]
    back = compare_results(side(worse), side(digits))
    assert cell(back, "LB").verdict == "B above A"
    assert back.regressions() == []
    assert back.differences() == ["LB: test accuracy differs, separated"]


def test_an_incomplete_cell_is_not_called_identical(side, synthetic):
    first = synthetic.digits_suite(3, only=["SB"])[0]
    second = synthetic.digits_suite(3, only=["SB"], missing=[("SB", 2)])[0]
    found = cell(compare_results(side(first), side(second)), "SB")
    assert found.verdict == "no verdict (B: 2 ok of 3)"
    assert (found.identical_runs, found.shared_runs) == (2, 2)


def test_a_separated_loss_is_a_difference_and_no_regression(side, digits):
    factors = [1.5, 1.55, 1.6, 1.45, 1.5]
    found = compare_results(side(digits), side(changed(digits, "SB", test_loss=lambda old: old * factors)))
    assert found.regressions() == []
    assert found.differences() == ["SB: test loss differs, separated"]


def test_without_accuracies_a_higher_loss_is_a_regression_and_a_lower_one_a_difference(side, digits):
    unlabelled = digits.assign(test_accuracy=None, train_accuracy=None, test_correct=None)
    factors = [1.5, 1.55, 1.6, 1.45, 1.5]
    worse = changed(unlabelled, "LB", test_loss=lambda old: old * factors)
    found = compare_results(side(unlabelled), side(worse))
    assert cell(found, "LB").verdict == "B's loss above A's"
    assert cell(found, "SB").verdict == "identical"
    assert found.comparisons == 1
    (regression,) = found.regressions()
    assert regression.startswith("LB: test loss is 0.0")
    assert regression.endswith(" nats above A's, separated")
    assert found.differences() == [regression]
    assert "1 with test loss in B above A" in summary(found)[0]
    assert any("paired by split" in sentence for sentence in summary(found))
    back = compare_results(side(worse), side(unlabelled))
    assert cell(back, "LB").verdict == "B's loss below A's"
    assert (back.regressions(), back.differences()) == ([], ["LB: test loss differs, separated"])


def test_other_seconds_are_shown_and_are_neither(side, digits):
    found = compare_results(side(digits), side(changed(digits, "SB", train_seconds=lambda old: old * 3 + [0, 0.1, 0.2, 0.3, 0.4])))
    assert cell(found, "SB").verdict == "identical"
    assert cell(found, "SB").changes["train_seconds"].estimate == pytest.approx(4.2)
    assert found.differences() == []


def test_runs_of_one_stack_were_timed_once(side, digits):
    stacked = digits.assign(replicas=5, train_seconds=2.5)
    seconds = cell(compare_results(side(digits), side(stacked)), "SB").changes["train_seconds"]
    assert (seconds.n_first, seconds.n_second) == (5, 1)
    assert seconds.low is None


def test_a_run_that_no_longer_ends_ok_is_a_regression_without_a_verdict(side, synthetic):
    first = synthetic.digits_suite(3, only=["SB", "LB"])[0]
    second = synthetic.digits_suite(3, only=["SB", "LB"], diverged=[("LB", 1)])[0]
    found = compare_results(side(first), side(second))
    assert cell(found, "LB").verdict == "no verdict (B: 2 ok of 3)"
    assert found.regressions() == ["LB: lb-s1 is ok in A, diverged in B (loss is not finite at update 20)"]
    back = compare_results(side(second), side(first))
    assert back.regressions() == []
    assert back.differences() == ["LB: lb-s1 is diverged in A, ok in B (loss is not finite at update 20)"]


def test_many_runs_with_the_same_outcome_are_one_line(side, synthetic):
    first = synthetic.digits_suite(4, only=["SB"])[0]
    second = synthetic.digits_suite(4, only=["SB"], missing=[("SB", seed) for seed in range(4)])[0]
    assert compare_results(side(first), side(second)).regressions() == ["SB: 4 runs are ok in A, skipped in B"]


def test_a_missing_cell_is_a_regression_and_a_new_one_a_difference(side, digits):
    fewer = digits[digits["cell"] != "LB"].reset_index(drop=True)
    found = compare_results(side(digits), side(fewer))
    assert (found.only_first, found.regressions()) == (("LB",), ["LB: is missing in B"])
    back = compare_results(side(fewer), side(digits))
    assert (back.only_second, back.regressions(), back.differences()) == (("LB",), [], ["LB: is missing in A"])


def test_a_label_that_stands_for_other_values_says_which(side, digits):
    other = changed(digits, "LB", batch_size=256, run_id=lambda old: old + "-other")
    found = compare_results(side(digits), side(other))
    assert values_by_change(found) == ["batch_size: 512 -> 256 (LB)"]
    assert found.regressions() == []
    assert found.differences() == ["LB: batch_size is 512 in A and 256 in B"]


def test_one_seed_has_no_interval_and_no_verdict(side, synthetic):
    first = synthetic.digits_suite(1, only=["SB"])[0]
    second = changed(first, "SB", test_accuracy=0.5, run_id="other")
    found = compare_results(side(first), side(second))
    assert cell(found, "SB").verdict == "no verdict (one seed)"
    assert cell(found, "SB").accuracy.low is None
    assert found.regressions() == []


def test_more_seeds_of_the_same_runs_are_identical_where_both_have_them(side, synthetic):
    first, second = (synthetic.digits_suite(seeds, only=["SB"])[0] for seeds in (3, 5))
    found = cell(compare_results(side(first), side(second)), "SB")
    assert found.verdict == "identical where shared"
    assert (found.ok_first, found.ok_second) == (3, 5)


def test_a_fixed_split_is_compared_by_welch(side, synthetic):
    first = synthetic.grid_suite(3, [128, 512])[0]
    second = first.copy()
    second["test_accuracy"] += [0.001 * (position % 3) for position in range(len(second))]
    found = compare_results(side(first), side(second))
    assert {one.accuracy.method for one in found.cells} == {"welch"}
    assert found.comparisons == len(found.cells)


def test_a_paper_is_held_against_where_one_new_run_of_ours_falls(side, synthetic):
    runs = as_the_paper(synthetic)
    found = compare_results(published_set("published:hoffer2017"), side(runs))
    assert [one.name for one in found.cells] == ["SB"]
    accuracy = found.cells[0].accuracy
    assert (accuracy.first, accuracy.method, accuracy.n_first, accuracy.n_second) == (92.83, "prediction", 1, 4)
    assert found.cells[0].verdict == "not separated"
    assert found.regressions() == []  # that the paper has more cells is none
    worse = compare_results(published_set("published:hoffer2017/table1"), side(changed(runs, "SB", test_accuracy=lambda old: old - 0.05)))
    assert [text.partition(":")[0] for text in worse.regressions()] == ["SB"]


def test_a_reduced_suite_is_not_held_against_the_paper(side, synthetic):
    runs = as_the_paper(synthetic).assign(train_examples=5000)
    found = compare_results(side(runs), published_set("published:hoffer2017"))
    assert found.cells == ()
    assert found.only_first[0].startswith("SB (not what the paper trained")
    assert any(text.startswith("ResNet44 on CIFAR-10 (SB,") for text in found.only_second)


def test_a_paper_against_itself_has_no_intervals():
    found = compare_results(published_set("published:hoffer2017/table1"), published_set("published:hoffer2017"))
    assert {one.accuracy.estimate for one in found.cells} == {0.0}
    assert {one.verdict for one in found.cells} == {"no verdict (single runs)"}
    figures = [text.split(" (")[0] for text in found.only_second if "AlexNet" not in text]
    assert figures == [f"ResNet44 on CIFAR-10, batch {size}" for size in (2048, 4096)] + ["ResNet44 on CIFAR-10"]


@pytest.mark.parametrize("name", ["published:hofer2017", "published:hoffer2017/table3"])
def test_an_unknown_paper_or_table_is_said(name):
    with pytest.raises(UnknownNameError, match="did you mean"):
        published_set(name)


def test_the_frame_has_a_row_for_every_cell_of_either_side(side, digits):
    found = compare_results(side(digits[digits["cell"] != "LB+LR"]), side(digits[digits["cell"] != "LB"]))
    frame = found.frame()
    assert frame[["cell", "in"]].to_numpy().tolist() == [["SB", "both"], ["LB", "A"], ["LB+LR", "B"]]
    assert frame["test_accuracy_pp_difference"][0] == 0.0
    assert str(frame["runs_identical"].dtype) == "Int64"


def as_the_paper(synthetic) -> pd.DataFrame:
    """Four runs of ResNet-44 on CIFAR-10 as the paper trained it: 100 epochs of 50,000 images, batch 128."""
    runs = synthetic.grid_suite(4, [128])[0]
    runs = runs[runs["regime"] == "baseline"].reset_index(drop=True)
    return runs.assign(cell="SB", arm="SB")
