"""A comparison reads well at any width: environment first, numbers never folded, and what has no room is said."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from gapbench.analysis.comparison import Results, compare_results
from gapbench.console import print_comparison, print_comparison_failures
from tests.analysis import synthetic

GOLDEN = Path(__file__).with_name("golden_comparison.txt")


def side(name: str, runs: pd.DataFrame) -> Results:
    values = runs.drop_duplicates("cell").set_index("cell")[["dataset", "model", "learning_rate"]]
    return Results(name, "quickstart", runs, values.to_dict("index"))


@pytest.fixture
def comparison():
    first = synthetic.digits_suite(5, only=["SB", "LB", "LB+LR", "SB no norm"])[0]
    second = synthetic.digits_suite(5, only=["SB", "LB", "LB+LR", "LB+LR+GBN"], diverged=[("LB+LR", 2)])[0]
    lower = second["cell"] == "LB"
    second.loc[lower, "test_accuracy"] -= [0.02, 0.021, 0.019, 0.02, 0.0205]
    second.loc[lower, "test_loss"] *= 1.1
    second.loc[lower, ["run_id", "learning_rate"]] = [["other", 0.2]] * 5
    second.loc[lower, "run_id"] = [f"other-{seed}" for seed in range(5)]
    second["torch_version"] = "2.12.0"
    second["train_seconds"] = 2.5
    return compare_results(side("results/before", first), side("results/after", second))


def printed(comparison, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_comparison(console, comparison)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def test_a_comparison_is_the_golden_file_at_80_and_120_columns(comparison):
    found = "".join(f"=== {width}\n{printed(comparison, width)}" for width in (80, 120))
    assert found == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 240])
def test_a_comparison_fits_any_width(comparison, width):
    assert max(len(line) for line in printed(comparison, width).splitlines()) <= max(width, 60)


def test_failures_are_said_one_a_line():
    console = Console(file=io.StringIO(), width=80)
    print_comparison_failures(console, {"regression": ["LB: is missing in B"], "environment": [], "difference": []})
    assert console.file.getvalue().splitlines() == ["regression: LB: is missing in B", "no environment difference", "no difference"]
