"""The side table of targets: steps by cell, and what did not arrive."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gapbench.analysis import side_tables
from gapbench.report import write_report

TARGETS = [{"metric": "train_loss", "value": 0.1}, {"metric": "test_error", "value": 0.5}]
STEPS = {32: (100.0, 110.0, 121.0), 512: (50.0, 55.0, None)}
"""Updates to train loss 0.1, by batch size, one a seed; None: not reached."""


def tables(synthetic: ModuleType) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, curves = [], []
    for order, (size, own) in enumerate(STEPS.items()):
        for seed, steps in enumerate(own):
            row = synthetic.run_row(f"B {size}", seed, batch_size=size, reference_cell=size == 32, cell_order=order)
            rows.append(row)
            for update in range(1, 201):
                loss = (steps / update) * 0.1 if steps else 1.0 + 1.0 / update
                curves.append({"run_id": row["run_id"], "update": update, "examples": update * size, "metric": "train_loss", "layer": "",
                               "value": loss})  # fmt: skip
    return synthetic.tables(rows, curves)


def test_every_cell_has_the_geometric_mean_of_its_seeds_with_its_interval(synthetic: ModuleType) -> None:
    runs, curves = tables(synthetic)
    (table,) = side_tables(runs, curves, TARGETS)
    assert table.name == "targets"
    frame = table.frame()
    assert [*frame.target] == ["train_loss"] * 2  # errors were not evaluated
    small = frame.set_index("batch_size").loc[32]
    assert small.steps == pytest.approx(110, rel=0.02)
    low, high = stats.t.interval(0.95, 2, np.log(110), math.log(1.1) / math.sqrt(3))
    assert (small.steps_low, small.steps_high) == (pytest.approx(math.exp(low), rel=0.03), pytest.approx(math.exp(high), rel=0.03))
    assert small.steps_examples == pytest.approx(32 * small.steps)
    assert (small.runs, small.reached, small.below_at_first) == (3, 3, 0)
    assert math.isnan(small.not_reached_after)


def test_runs_that_do_not_arrive_are_named_and_leave_their_cell_out_of_the_best(synthetic: ModuleType) -> None:
    (table,) = side_tables(*tables(synthetic), TARGETS)
    large = table.frame().set_index("batch_size").loc[512]
    assert (large.reached, large.runs, large.not_reached_after) == (2, 3, 200.0)
    assert table.sentences[0].startswith("Train loss 0.1: fewest updates by B 32 (")
    assert table.sentences[1] == "Train loss 0.1: not reached by B 512 (1 of 3 runs)."
    assert table.rows[1][-1] == "200 updates"


def test_a_target_that_was_passed_unseen_is_said(synthetic: ModuleType) -> None:
    runs, curves = tables(synthetic)
    (table,) = side_tables(runs, curves[curves["update"] >= 150], TARGETS[:1])
    assert "Train loss 0.1: no cell reached it with all of its seeds." in table.sentences
    assert any("5 runs were below it at the first evaluation" in sentence for sentence in table.sentences)


def test_a_report_of_a_suite_with_targets_has_the_table(synthetic: ModuleType, tmp_path: Path) -> None:
    files = write_report(synthetic.write(tmp_path, *tables(synthetic), report={"targets": TARGETS[:1]}))
    assert {path.name for path in files.tables} >= {"targets.csv", "targets.md"}
    text = (tmp_path / "tables" / "targets.md").read_text(encoding="utf-8")
    assert "| B 512 | train loss 0.1 |" in text.replace("  ", " ")
    assert "not reached by B 512" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_column_is_on_the_page_of_numbers(synthetic: ModuleType) -> None:
    page = (Path(__file__).parents[3] / "docs" / "numbers.md").read_text(encoding="utf-8")
    (table,) = side_tables(*tables(synthetic), TARGETS)
    assert [column for column in table.frame().columns if f"`{column}`" not in page] == []


def test_a_suite_without_targets_has_no_such_table(synthetic: ModuleType) -> None:
    assert side_tables(*tables(synthetic)) == ()
