"""The paper's number beside a cell, where the cell trains what the paper trained: recipe, arm, batch size, length, whole data set."""

from __future__ import annotations

import json
from typing import Any

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel
from gapbench.catalog import published
from gapbench.catalog.published import PublishedValue

PRESETS = ("paper", "code")
"""Presets that stand for what the paper did; `fair` trains something else on purpose."""


def off_by_pp(value: PublishedValue, low: float, high: float) -> float:
    """Returns by how much a published number lies below (-) or above (+) an interval of fractions, its rounding granted; 0: inside."""
    rounding = value.rounding_pp / 100
    if value.test_accuracy < low - rounding:
        return 100 * (value.test_accuracy - low)
    return 100 * (value.test_accuracy - high) if value.test_accuracy > high + rounding else 0.0


def published_value(panel: Panel, cell: Cell) -> PublishedValue | None:
    """Returns what a paper reports for a cell; None where it reports nothing, or for something else than this cell trains.

    A reduced suite (fewer epochs, a subset, a held-out part, another large batch) is not held against the paper.
    """
    found = _reported(panel, cell)
    return None if found is None or _otherwise(panel, cell, found) else found


def not_comparable(panel: Panel, cell: Cell) -> str:
    """Returns why a cell that carries the label of one of the paper's arms is not held against its number; empty where it is."""
    found = _reported(panel, cell)
    return "" if found is None else _otherwise(panel, cell, found)


def _reported(panel: Panel, cell: Cell) -> PublishedValue | None:
    """Returns the number of the paper's arm of this name; without a name that of the same batch size, where a figure shows it."""
    if cell.arm:  # where a table has it at several batch sizes, that of the cell
        return published.value(panel.recipe, cell.arm, cell.batch_size) or published.value(panel.recipe, cell.arm)
    plain = cell.ghost_batch_size is None and cell.learning_rate_rule == "untouched"
    return published.value_at(panel.recipe, cell.regime, cell.batch_size) if plain else None


def _otherwise(panel: Panel, cell: Cell, found: PublishedValue) -> str:
    """Returns what a cell trains otherwise than the paper, the first that is found; empty where it trains the same."""
    if panel.recipe not in catalog.recipes() or panel.dataset not in catalog.datasets():
        return "the recipe or the data set is not known here"
    recipe, dataset = catalog.recipes()[panel.recipe], catalog.datasets()[panel.dataset]
    fields: dict[str, Any] = {**recipe.fields, **(recipe.presets[cell.preset].fields if cell.preset in recipe.presets else {})}
    if cell.preset not in PRESETS:
        return f"preset {cell.preset or 'none'}"
    if fields.get("dataset") != panel.dataset:
        return f"data set {panel.dataset}"
    if not _is_model(panel, fields.get("model")):
        return "another model, or other options of it"
    whole = dataset.train_examples or found.train_examples
    if whole is None:
        return "the size of the paper's training set is not known here"
    if cell.train_examples != whole:
        return f"{cell.train_examples:,} of {whole:,} training examples"
    if tests := json.loads(panel.dataset_options).get("test_size"):
        return f"{tests:,} of {dataset.test_examples:,} test examples" if dataset.test_examples else f"{tests:,} test examples"
    if cell.batch_size != found.batch_size:
        return f"batch size {cell.batch_size} instead of {found.batch_size}"
    if fields.get("reference_batch_size") != cell.reference_batch_size:
        return f"reference batch size {cell.reference_batch_size}"
    # Updates are whole; `drop` leaves out what fills no batch, and `ragged` has one that is not full: at most one batch an epoch.
    epochs = fields.get("epochs", 0)
    if abs(epochs * cell.train_examples - cell.reference_examples) > epochs * cell.reference_batch_size:
        return f"{cell.reference_examples / cell.train_examples:.3g} of {epochs:g} epochs"
    return ""


def _is_model(panel: Panel, recipes: Any) -> bool:
    """Whether a panel's model is the recipe's: the same name, and the same options where some are left out on either side."""
    table = {"name": recipes} if isinstance(recipes, str) else dict(recipes)
    if table.pop("name") != panel.model or panel.model not in catalog.models():
        return False
    defaults = {name: parameter.default for name, parameter in catalog.models()[panel.model].parameters.items()}
    return {**defaults, **table} == {**defaults, **json.loads(panel.model_options)}
