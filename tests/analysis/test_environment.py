"""With what runs were trained, and how good their price was."""

from __future__ import annotations

import pandas as pd
import pytest

from gapbench.analysis import arms_table
from gapbench.analysis.environment import environment_lines, environment_notes, prices


@pytest.fixture
def runs(synthetic):
    return synthetic.digits_suite(2, only=["SB", "LB"])[0].assign(device="cuda:0", device_name="a GPU")


def test_the_same_environment_differs_in_nothing(runs):
    assert not [line for line in environment_lines(runs, runs) if line.differs]


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        ("torch_version", "2.12.0", "torch"),
        ("device", "cpu", "device"),
        ("threads", 2, "threads"),
        ("slots", 2, "jobs at a time"),
        ("precision", "bf16", "precision"),
        ("git_commit", "0123456789abcdef", "git commit"),
        ("replicas", 2, "runs a stack"),
    ],
)
def test_what_differs_is_named(runs, column, value, name):
    different = [line for line in environment_lines(runs, runs.assign(**{column: value})) if line.differs]
    assert [line.name for line in different] == [name]
    assert different[0].second == str(value)[:10]


def test_which_of_several_equal_devices_it_was_is_no_difference(runs):
    assert not [line for line in environment_lines(runs, runs.assign(device="cuda:3")) if line.differs]


def test_runs_that_never_began_have_no_environment(runs):
    rest = runs.assign(outcome="skipped", gapbench_version=None, device=None)
    assert {line.second for line in environment_lines(runs, rest)} == {"no run"}


def test_values_that_runs_differ_in_are_counted(runs):
    mixed = runs.copy()
    mixed.loc[0, "torch_version"] = "2.12.0"
    line = next(line for line in environment_lines(mixed, runs) if line.name == "torch")
    assert line.first == "2.11.0 (3 runs), 2.12.0 (1 run)"


def test_a_mixture_within_one_results_directory_is_a_note_of_the_arms_table(synthetic, runs):
    curves = synthetic.digits_suite(2, only=["SB", "LB"])[1]
    assert environment_notes(runs) == []
    assert not any("environments" in note for note in arms_table(runs, curves).notes)
    mixed = runs.copy()
    mixed.loc[0, ["torch_version", "device_name"]] = ["2.12.0", "another GPU"]
    (note,) = environment_notes(mixed)
    assert "2 environments: torch 2.11.0, device name a GPU (3 runs); torch 2.12.0, device name another GPU (1 run)" in note
    assert note in arms_table(mixed, curves).notes


def test_another_commit_alone_is_no_warning(runs):
    mixed = runs.copy()
    mixed.loc[0, "git_commit"] = "0123456789abcdef"
    assert environment_notes(mixed) == []


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
