"""The paper's number beside a cell, where the cell trains what the paper trained: recipe, arm, batch size, length, whole data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gapbench.analysis.cells import Cell, Panel

PRESETS = ("paper", "code")
"""Presets that stand for what the paper did; `fair` trains something else on purpose."""


@dataclass(frozen=True)
class Published:
    """A published single run."""

    test_accuracy: float
    """A fraction."""
    rounding: float
    """Half a unit of the last printed digit, a fraction."""
    source: str
    """Paper and table."""
    how: str
    """How the number was obtained."""


def published_value(panel: Panel, cell: Cell) -> Published | None:
    """Returns what a paper reports for a cell; None where it reports nothing, or for something else than this cell trains.

    A reduced suite (fewer epochs, a subset, a held-out part, another large batch) is not held against the paper.
    """
    from gapbench import published

    found = published.value(panel.recipe, cell.arm, cell.batch_size) if cell.arm else None
    if found is None or cell.preset not in PRESETS or not _as_published(panel, cell, found.train_examples):
        return None
    return Published(found.test_accuracy, found.rounding_pp / 100, found.source, found.how)


def _as_published(panel: Panel, cell: Cell, train_examples: int | None) -> bool:
    """Whether a cell's model, its data and the reference's length are the recipe's own.

    `train_examples` is the size of the paper's training set where the catalog does not know it.
    """
    from gapbench import catalog

    if panel.recipe not in catalog.recipes() or panel.dataset not in catalog.datasets():
        return False
    recipe, dataset = catalog.recipes()[panel.recipe], catalog.datasets()[panel.dataset]
    fields: dict[str, Any] = {**recipe.fields, **(recipe.presets[cell.preset].fields if cell.preset in recipe.presets else {})}
    whole = cell.train_examples == (dataset.train_examples or train_examples) and not json.loads(panel.dataset_options).get("test_size")
    own = (
        fields.get("dataset") == panel.dataset
        and _is_model(panel, fields.get("model"))
        and fields.get("reference_batch_size") == cell.reference_batch_size
    )
    # Updates are whole, and `drop` leaves out what no full batch is left for: at most one batch an epoch.
    examples = fields.get("epochs", 0) * cell.train_examples
    return whole and own and 0 <= examples - cell.reference_examples <= fields.get("epochs", 0) * cell.reference_batch_size


def _is_model(panel: Panel, recipes: Any) -> bool:
    """Whether a panel's model is the recipe's: the same name, and the same options where some are left out on either side."""
    from gapbench import catalog

    table = {"name": recipes} if isinstance(recipes, str) else dict(recipes)
    if table.pop("name") != panel.model or panel.model not in catalog.models():
        return False
    defaults = {name: parameter.default for name, parameter in catalog.models()[panel.model].parameters.items()}
    return {**defaults, **table} == {**defaults, **json.loads(panel.model_options)}
