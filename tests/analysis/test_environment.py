"""With what runs were trained, and how good their price was."""

from __future__ import annotations

import pandas as pd
import pytest

from gapbench.analysis import arms_table
from gapbench.analysis.environment import environment_lines, environment_notes, prices


@pytest.fixture
def runs(synthetic):
    return synthetic.digits_suite(2, only=["SB", "LB"])[0].assign(device="cuda:0", device_name="a GPU")


@pytest.mark.parametrize("device", ["cuda:0", "cuda:3"])
def test_the_same_environment_differs_in_nothing_on_whichever_of_several_equal_devices(runs, device):
    assert not [line for line in environment_lines(runs, runs.assign(device=device)) if line.differs]


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


COLUMNS = ["run_id", "cell", "cell_order", "outcome", "predicted_seconds", "train_seconds"]
ROWS = [
    ("a", "SB", 1, "ok", 10.0, 10.5),
    ("b", "SB", 1, "ok", 10.0, 6.5),
    ("c", "LB", 0, "ok", 4.0, 4.5),
    ("c", "LB again", 2, "ok", 4.0, 4.5),  # one run under two labels
    ("d", "LB", 0, "diverged", 4.0, 88.5),
    ("e", "LB", 0, "ok", None, 88.5),
    ("f", "LB", 0, "ok", 4.0, None),
]
TABLE = pd.DataFrame(ROWS, columns=COLUMNS).assign(evaluation_seconds=1.0, other_seconds=0.5)


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
