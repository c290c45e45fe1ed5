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


def f1_suite(synthetic: ModuleType, *, run: dict[str, Any] | None = None, **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SB and LB of F1 on MNIST, SB near the paper's 98.27, LB far above its 97.05.

    `run`: fields that the suite sets besides the paper's; `changes`: columns.
    """
    rows = []
    for order, (name, batch_size, accuracy) in enumerate((("SB", 128, 0.982), ("LB", 4096, 0.979))):
        fields = {**FIELDS, "batch_size": batch_size, "cell_order": order, **changes}
        if "values" not in changes:
            fields |= synthetic.effective(recipe=fields["recipe"], preset="paper", **{"batch_size": fields["batch_size"], **(run or {})})
        for seed in range(3):
            row = synthetic.run_row(name, seed, reference_cell=name == "SB", test_accuracy=accuracy + 0.0005 * seed, **fields)
            rows.append(row)
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
    ("run", "why"),
    [
        ({"epochs": 5.0}, "updates 2,343 instead of 23,437"),
        ({"dataset": {"name": "mnist", "train_size": 10000}}, "10,000 of 60,000 training examples"),
        ({"holdout": 0.1}, "holdout 0.1 instead of 0"),
        ({"dataset": {"name": "mnist", "test_size": 1000}}, "test size 1,000 instead of 0"),
        ({"batch_size": 1024}, "batch size 1,024 instead of "),
        ({"learning_rate": 0.7}, "learning rate 0.7 instead of 0.1"),
        ({"optimizer": {"name": "sgd", "momentum": 0.0}}, "momentum 0 instead of 0.9"),
        ({"optimizer": "adamw"}, "optimizer adamw instead of sgd"),
        ({"clip_norm": "off"}, "clip norm off instead of 5"),
        ({"weight_decay": 0.0}, "weight decay 0 instead of 0.0001"),
        ({"ghost_batch_size": 64}, "ghost batch size 64 instead of off"),
        ({"flip": True}, "flip true instead of false"),
        ({"regime": "sqrt-lr", "batch_size": 4096}, "learning rate 0.566 instead of 0.1"),
        ({"phases": [{"start": 0.0, "learning_rate_factor": 1.0}]}, "other phases"),
        ({"model": {"name": "f1", "norm": "none"}}, "norm none instead of batch"),
    ],
)
def test_a_number_stands_only_beside_a_cell_of_the_papers_effective_values(synthetic: ModuleType, run: dict[str, Any], why: str) -> None:
    table = arms_table(*f1_suite(synthetic, run=run))
    assert any(why in row.not_comparable for row in table.rows)
    assert any(note.startswith("Not comparable with the paper's number: ") and why in note for note in table.notes)
    assert not any("as in the paper" in sentence.lower() for sentence in table.verdict)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"preset": "fair"}, "preset fair"),
        ({"values": "{}"}, "were not recorded"),
        ({"arm": ""}, ""),
        ({"recipe": "mine", "values": "{}"}, ""),
    ],
)
def test_what_is_no_arm_of_the_paper_or_not_known_to_be_is_not_held_against_it(
    synthetic: ModuleType, changes: dict[str, Any], why: str
) -> None:
    table = arms_table(*f1_suite(synthetic, **changes))
    assert all(why in row.not_comparable and bool(row.not_comparable) == bool(why) for row in table.rows)
    assert all(row.published is None for row in table.rows)
    assert "paper, %" not in table.columns


def test_precision_and_a_model_that_says_its_defaults_are_still_the_papers(synthetic: ModuleType) -> None:
    for run in ({"precision": "bf16"}, {"model": {"name": "f1", "norm": "batch"}}):
        assert all(row.published is not None for row in arms_table(*f1_suite(synthetic, run=run)).rows)


def test_a_grid_cell_is_held_against_the_figure_of_its_batch_size(synthetic: ModuleType) -> None:
    recipe = {"recipe": "hoffer2017/resnet44-cifar10", "dataset": "cifar10", "model": "resnet", "model_options": '{"depth":44}', "arm": ""}
    table = arms_table(*f1_suite(synthetic, batch_size=2048, **recipe))
    assert [row.published.test_accuracy for row in table.rows if row.published] == pytest.approx([0.874, 0.874])
    assert all(row.published is not None and row.published.rounding_pp == pytest.approx(0.1) for row in table.rows)
    others: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"ghost_batch_size": 128}, {"ghost_batch_size": 128}),
        ({"regime": "sqrt-lr"}, {"regime": "sqrt-lr", "learning_rate_rule": "sqrt"}),
        ({"batch_size": 4096}, {"batch_size": 4096}),
    ]
    for run, columns in others:
        other = arms_table(*f1_suite(synthetic, run=run, **{"batch_size": 2048, **recipe, **columns}))
        assert all(row.published is None for row in other.rows)
