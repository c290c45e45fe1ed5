from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from gapbench.analysis import ArmsTable, arms_table

FIELDS: dict[str, Any] = {
    "recipe": "hoffer2017/f1-mnist",
    "dataset": "mnist",
    "model": "f1",
    "model_options": "{}",
    "train_examples": 60000,
    "reference_batch_size": 128,
    "reference_updates": 23437,
    "split_seed": 0,
    "split_drawn": False,
}


def f1_suite(synthetic: ModuleType, **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SB and LB of F1 on MNIST at full length; SB near the paper's 98.27, LB far above its 97.05."""
    rows = []
    for order, (name, batch_size, accuracy) in enumerate((("SB", 128, 0.982), ("LB", 4096, 0.979))):
        for seed in range(3):
            fields = {**FIELDS, "batch_size": batch_size, "planned_updates": 23437 * 128 // batch_size, "cell_order": order, **changes}
            rows.append(synthetic.run_row(name, seed, reference_cell=name == "SB", test_accuracy=accuracy + 0.0005 * seed, **fields))
    runs, curves = synthetic.tables(rows, [])
    return runs, curves


def paper_column(table: ArmsTable) -> list[str]:
    return [table.cells(row)[table.columns.index("paper, %")] for row in table.rows]


def test_the_papers_single_run_is_held_against_the_prediction_interval(synthetic: ModuleType) -> None:
    table = arms_table(*f1_suite(synthetic))
    assert [row.published_inside for row in table.rows] == [True, False]
    assert paper_column(table) == ["98.27, consistent with 98.00 to 98.50", "97.05, 0.65 pp below 97.70 to 98.20"]
    for row in table.rows:
        assert row.prediction[1] > row.test_accuracy.high  # wider than the interval of our mean
    assert any(note.startswith("Paper: Hoffer et al. 2017, table 1") for note in table.notes)


def test_one_seed_shows_the_papers_number_without_a_judgment(synthetic: ModuleType) -> None:
    runs, curves = f1_suite(synthetic)
    table = arms_table(runs[runs["seed"] == 0], curves)
    assert paper_column(table) == ["98.27", "97.05"]
    assert [row.published_inside for row in table.rows] == [None, None]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"preset": "fair"}, "preset fair"),
        ({"reference_updates": 2343}, "5 of 50 epochs"),
        (
            {"train_examples": 10000, "reference_updates": 3906, "dataset_options": '{"train_size":10000}'},
            "10,000 of 60,000 training examples",
        ),
        ({"train_examples": 54000, "reference_updates": 21093}, "54,000 of 60,000 training examples"),  # a tenth held out
        ({"dataset_options": '{"test_size":1000}'}, "1,000 of 10,000 test examples"),
        ({"batch_size": 1024}, "batch size 1024 instead of "),
        ({"recipe": "mine"}, ""),
        ({"arm": ""}, ""),
    ],
)
def test_what_the_paper_did_not_train_is_not_held_against_it(synthetic: ModuleType, changes: dict[str, Any], why: str) -> None:
    table = arms_table(*f1_suite(synthetic, **changes))
    assert all(why in row.not_comparable and bool(row.not_comparable) == bool(why) for row in table.rows)
    assert any(note.startswith("Not comparable with the paper's number: ") and why in note for note in table.notes) == bool(why)
    assert all(row.published is None for row in table.rows)
    assert "paper, %" not in table.columns


def test_a_grid_cell_is_held_against_the_figure_of_its_batch_size(synthetic: ModuleType) -> None:
    fields = {"recipe": "hoffer2017/resnet44-cifar10", "dataset": "cifar10", "train_examples": 50000, "reference_updates": 39062, "arm": ""}
    fields |= {"model": "resnet", "model_options": '{"depth":44}'}
    table = arms_table(*f1_suite(synthetic, **fields | {"batch_size": 2048, "regime": "baseline"}))
    assert [row.published.test_accuracy for row in table.rows if row.published] == pytest.approx([0.874, 0.874])
    assert all(row.published is not None and row.published.rounding_pp == pytest.approx(0.1) for row in table.rows)
    for changes in ({"ghost_batch_size": 128}, {"regime": "sqrt-lr"}, {"batch_size": 4096}):
        other = arms_table(*f1_suite(synthetic, **fields | {"batch_size": 2048, "regime": "baseline"} | changes))
        assert all(row.published is None for row in other.rows)


@pytest.mark.parametrize(("options", "held"), [("{}", True), ('{"norm":"batch"}', True), ('{"norm":"none"}', False)])
def test_a_model_with_other_options_is_not_what_the_paper_trained(synthetic: ModuleType, options: str, held: bool) -> None:
    table = arms_table(*f1_suite(synthetic, model_options=options))
    assert [row.published is not None for row in table.rows] == [held, held]
