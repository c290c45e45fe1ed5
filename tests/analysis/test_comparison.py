"""Two results side by side: which cells are one, how they differ, and what is a regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gapbench.analysis.comparison import (
    Results,
    change,
    change_from_published,
    compare_results,
    matched_cells,
    published_set,
    summary,
    values_by_change,
)
from gapbench.analysis.stats import difference
from gapbench.core.errors import UnknownNameError

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
    assert found.ok == (3, 5)


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
    dataset = {"name": "cifar10", "train_size": 5000}
    own = synthetic.effective(recipe="hoffer2017/resnet44-cifar10", preset="paper", batch_size=128, dataset=dataset)
    runs = as_the_paper(synthetic).assign(**own)
    found = compare_results(side(runs), published_set("published:hoffer2017"))
    assert found.cells == ()
    assert found.only_first[0].startswith("SB (not what the paper trained: ")
    assert "5,000 of 50,000 training examples" in found.only_first[0]
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
    return runs.assign(cell="SB", arm="SB", **synthetic.effective(recipe="hoffer2017/resnet44-cifar10", preset="paper", batch_size=128))


FIRST = {0: 97.1, 1: 96.4, 2: 97.9, 3: 97.0}
SECOND = {0: 96.0, 1: 95.9, 2: 97.2, 3: 95.5}


@pytest.mark.parametrize("same_splits", [True, False])
def test_a_change_is_the_difference_of_b_and_a_paired_only_on_the_same_splits(same_splits):
    found, oracle = change(FIRST, SECOND, same_splits=same_splits), difference(SECOND, FIRST, paired=same_splits)
    assert found.method == oracle.method
    assert (found.estimate, found.low, found.high) == pytest.approx((oracle.estimate, oracle.low, oracle.high))
    assert (found.estimate, found.p_value) == pytest.approx((-0.95, oracle.p_value))


def test_more_seeds_on_one_side_are_paired_on_the_splits_that_both_have():
    found = change(FIRST, {**SECOND, 4: 10.0, 5: 10.0}, same_splits=True)
    assert found.method == "paired"
    assert found.estimate == pytest.approx(-0.95)
    assert (found.n_first, found.n_second) == (4, 6)


@pytest.mark.parametrize("shift", [2, 4])
def test_splits_that_are_only_partly_shared_are_welch(shift):
    other = {key + shift: value for key, value in SECOND.items()}
    assert change(FIRST, other, same_splits=True).method == "welch"


def test_a_published_run_is_held_against_one_new_run_of_ours():
    ours = [98.9, 99.1, 99.3]
    half = stats.t.ppf(0.975, 2) * np.std(ours, ddof=1) * np.sqrt(1 + 1 / 3)
    found = change_from_published(98.27, 0.005, ours, published_first=True)
    assert found.estimate == pytest.approx(0.83)
    assert (found.low, found.high) == pytest.approx((0.83 - half - 0.005, 0.83 + half + 0.005))
    mirrored = change_from_published(98.27, 0.005, ours, published_first=False)
    assert (mirrored.estimate, mirrored.low, mirrored.high) == pytest.approx((-0.83, -found.high, -found.low))
    assert mirrored.p_value == found.p_value


def test_the_interval_around_a_published_run_holds_zero_exactly_where_the_p_value_is_above_5_percent():
    generator = np.random.default_rng(0)
    for _ in range(200):
        found = change_from_published(0.0, 0.05, [*generator.normal(1.0, 0.5, 4)], published_first=True)
        assert (found.low <= 0 <= found.high) == (found.p_value >= 0.05)


def test_a_published_run_without_our_intervals_stays_without():
    assert change_from_published(98.0, 0.05, [97.0], published_first=True).low is None
    assert change_from_published(98.0, 0.05, [], published_first=True).estimate is None
    assert change_from_published(98.0, 0.05, [97.0, 97.0], published_first=True).p_value is None


@pytest.mark.parametrize("n", [3, 5])
def test_a_published_run_like_ours_is_found_different_in_5_percent(n):
    generator = np.random.default_rng(n)
    draws = 2000
    found = [change_from_published(generator.normal(), 0.0, [*generator.normal(size=n)], published_first=True) for _ in range(draws)]
    assert sum(one.p_value < 0.05 for one in found) / draws == pytest.approx(0.05, abs=0.015)


SB = {"dataset": "digits", "batch_size": 16}
LB = {"dataset": "digits", "batch_size": 512}


@pytest.mark.parametrize(
    ("first", "second", "both", "only"),
    [
        pytest.param({"SB": SB, "LB": LB}, {"LB": LB, "SB": SB}, [("SB", "SB", {}), ("LB", "LB", {})], ((), ()), id="equal"),
        pytest.param({"SB": SB, "LB": LB}, {"small": SB, "LB": LB}, [("SB", "small", {}), ("LB", "LB", {})], ((), ()), id="renamed"),
        pytest.param({"SB": SB, "LB": LB}, {"SB": LB, "LB": SB}, [("SB", "LB", {}), ("LB", "SB", {})], ((), ()), id="swapped"),
        pytest.param({"LB": LB}, {"LB": LB | {"batch_size": 256}}, [("LB", "LB", {"batch_size": ("512", "256")})], ((), ()), id="changed"),
        pytest.param({"SB": SB}, {"SB": SB | {"dataset": "mnist"}}, [], (("SB",), ("SB",)), id="other data set"),
        pytest.param(
            {"off": LB, "512": LB}, {"512": LB, "off": LB}, [("off", "off", {}), ("512", "512", {})], ((), ()), id="one, two names"
        ),
        pytest.param({"off": LB, "512": LB}, {"off": LB}, [("off", "off", {})], (("512",), ()), id="two names, one"),
    ],
)
def test_cells_are_matched_by_label_and_values_then_by_values_then_by_label_on_the_same_data_set(first, second, both, only):
    found = matched_cells(first, second)
    assert [(one.first, one.second, dict(one.values)) for one in found.both] == both
    assert (found.only_first, found.only_second) == only
