from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.examples import unpack_correct
from gapbench.analysis.formats import budget_text, rate_text
from gapbench.core.errors import GapbenchError


def cell_of(panel: Panel, name: str) -> Cell:
    return next(cell for cell in panel.cells if cell.name == name)


def budget_of_large(runs: pd.DataFrame) -> str:
    (panel,) = read_panels(runs)
    return budget_text(cell_of(panel, "LB"), cell_of(panel, "SB"))


def test_models_with_other_options_stand_in_panels_of_their_own(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(2)
    panels = read_panels(runs)
    assert [panel.title for panel in panels] == ["digits, mlp (norm batch), recipe digits", "digits, mlp (norm none), recipe digits"]
    assert [cell.name for cell in panels[1].cells] == ["SB no norm", "LB no norm"]


def test_every_panel_has_its_own_reference_even_where_the_suite_marks_one_of_another_model(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(2)
    runs["reference_cell"] = runs["cell"] == "SB"
    for panel, expected in zip(read_panels(runs), ("SB", "SB no norm"), strict=True):
        assert [cell.name for cell in panel.cells if cell.reference] == [expected]
        assert all(panel.reference_of(cell) is cell_of(panel, expected) for cell in panel.cells)


def test_of_several_marked_cells_the_one_that_trains_as_the_recipe_says_is_the_reference(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(2)
    runs["reference_cell"] = runs["batch_size"] == 16
    runs.loc[runs["cell"] == "SB+4x", ["cell_order", "regime"]] = [-1, "baseline"]  # first in the table, and named baseline
    panel = read_panels(runs)[0]
    assert [cell.name for cell in panel.cells if cell.reference] == ["SB"]


def test_cells_are_held_against_the_reference_of_their_own_method(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(2, only=["SB", "LB"])
    adam = runs.assign(optimizer="adamw", cell=runs["cell"] + " adamw", cell_order=runs["cell_order"] + 10)
    panel = read_panels(pd.concat([runs, adam]))[0]
    references = {cell.name: reference.name for cell in panel.cells if (reference := panel.reference_of(cell))}
    assert references == {"SB": "SB", "LB": "SB", "SB adamw": "SB adamw", "LB adamw": "SB adamw"}


def test_a_suite_without_its_reference_cell_has_none(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(2, only=["LB", "LB+LR"])
    panel = read_panels(runs)[0]
    assert panel.reference_of(panel.cells[0]) is None


def test_baseline_is_the_unadapted_cell_of_the_same_batch_size_and_the_recipes_length(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(2)
    longer = runs[runs["cell"] == "LB"].assign(cell="LB longer", planned_updates=520, cell_order=-1)
    panel = read_panels(pd.concat([runs, longer]))[0]
    baseline = panel.baseline_of(cell_of(panel, "LB+LR+GBN+RA"))
    assert baseline.name == "LB"


def test_budgets_are_named_by_the_numbers(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(1)
    panel = read_panels(runs)[0]
    reference = cell_of(panel, "SB")
    named = {cell.name: (budget_text(cell, reference), rate_text(cell)) for cell in panel.cells}
    assert named == {
        "SB": ("equal examples and updates", "untouched"),
        "LB": ("equal examples", "untouched"),
        "LB+LR": ("equal examples", "by rule sqrt"),
        "LB+LR+GBN": ("equal examples", "by rule sqrt"),
        "LB+LR+GBN+RA": ("equal updates, 32 × examples", "by rule sqrt"),
        "SB+4x": ("4 × examples", "untouched"),
    }


@pytest.mark.parametrize(("planned", "budget"), [(26_992, "equal examples"), (53_984, "2 × examples")])
def test_budgets_go_by_the_examples_that_were_planned_where_batches_vary(synthetic: ModuleType, planned: int, budget: str) -> None:
    runs = synthetic.digits_suite(1, only=["SB", "LB"])[0].assign(planned_examples=[26_992, planned])
    runs.loc[runs["cell"] == "LB", ["batch_size", "planned_updates"]] = (16, 900)  # grew on the way
    assert budget_of_large(runs) == budget


def test_a_run_whose_batch_follows_the_noise_scale_is_never_at_equal_updates(synthetic: ModuleType) -> None:
    runs = synthetic.digits_suite(1, only=["SB", "LB"])[0].assign(planned_examples=26_992, planned_updates=1687)
    assert budget_of_large(runs) == "equal examples and updates"
    assert budget_of_large(runs.assign(adaptive_batch=[None, '{"unit":16}'])) == "equal examples"  # its updates are only an estimate


def test_runs_on_the_same_split_are_averaged_before_they_count(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(4, only=["SB"])
    runs["split_seed"] = [0, 0, 1, 1]
    runs["test_accuracy"] = [0.9, 0.8, 0.7, 0.5]
    assert read_panels(runs)[0].cells[0].column("test_accuracy") == pytest.approx({0: 0.85, 1: 0.6})


def test_counts_name_what_became_of_the_others(synthetic: ModuleType) -> None:
    runs, _ = synthetic.digits_suite(4, only=["SB"], diverged=[("SB", 0)], missing=[("SB", 3)])
    cell = read_panels(runs)[0].cells[0]
    assert cell.ok_of() == "2 ok of 4, 1 diverged, 1 not started"
    assert not cell.complete


@pytest.mark.parametrize("ghost", [pd.array([16, None], dtype="Int64"), [16.0, float("nan")]])
def test_missing_numbers_may_be_na_or_nan(synthetic: ModuleType, ghost: object) -> None:
    runs, _ = synthetic.digits_suite(1, only=["SB", "LB"])
    runs["ghost_batch_size"] = ghost
    assert [cell.ghost_batch_size for cell in read_panels(runs)[0].cells] == [16, None]


def test_bits_of_correct_test_examples_unpack_to_flags() -> None:
    assert unpack_correct(bytes([0b10100000, 0b01000000]), 10).tolist() == [True, False, True] + [False] * 6 + [True]
    with pytest.raises(GapbenchError, match="2 bytes, not the bits of 20 test examples"):
        unpack_correct(b"\x00\x00", 20)
