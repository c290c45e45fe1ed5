"""The paper's number beside a cell, where every effective value of the cell is that of the published row."""

from __future__ import annotations

import json

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel
from gapbench.catalog import published
from gapbench.catalog.published import PublishedValue
from gapbench.suite.plan import spec_of
from gapbench.suite.runspec import RunSpec, differing, values_of

PRESETS = ("paper", "code")
"""Presets that stand for what the paper did; `fair` trains something else on purpose."""
UNSAID = frozenset({"precision", "dataset.stratified"})
"""Values that papers do not print, or that another one implies."""
MANY = 3
"""More differences than this are counted."""


def off_by_pp(value: PublishedValue, low: float, high: float) -> float:
    """Returns by how much a published number lies below (-) or above (+) an interval of fractions, its rounding granted; 0: inside."""
    rounding = value.rounding_pp / 100
    if value.test_accuracy < low - rounding:
        return 100 * (value.test_accuracy - low)
    return 100 * (value.test_accuracy - high) if value.test_accuracy > high + rounding else 0.0


def published_value(panel: Panel, cell: Cell) -> PublishedValue | None:
    """Returns what a paper reports for a cell; None where it reports nothing, or for other effective values than this cell's."""
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
    plain = cell.ghost_batch_size is None and cell.change.rate_untouched
    return published.value_at(panel.recipe, cell.regime, cell.batch_size) if plain else None


def _otherwise(panel: Panel, cell: Cell, found: PublishedValue) -> str:
    """Returns what a cell trains otherwise than the paper; empty where all its effective values are the paper's."""
    if panel.recipe not in catalog.recipes() or panel.dataset not in catalog.datasets():
        return "the recipe or the data set is not known here"
    if cell.preset not in PRESETS:
        return f"preset {cell.preset or 'none'}"
    if not cell.values:
        return "its effective values were not recorded"
    own_files = catalog.datasets()[panel.dataset].train_examples is None
    if own_files and found.train_examples != cell.train_examples:
        return f"{cell.train_examples:,} training examples" + (f" of {found.train_examples:,}" if found.train_examples else "")
    fields = {"recipe": panel.recipe, "preset": cell.preset, "batch_size": found.batch_size, **found.fields}
    if own_files:
        fields["dataset"] = {"name": panel.dataset, **json.loads(panel.dataset_options)}
    expected = spec_of(fields)
    if expected is None:
        return "the paper's values cannot be told without the data"
    others = differing(values_of(expected), cell.values)
    told = [_told(key, texts, cell, expected) for key, texts in others.items() if key not in UNSAID]
    more = [f"and {len(told) - MANY} more"] if len(told) > MANY + 1 else []
    return "; ".join([*(told[:MANY] if more else told), *more])


def _told(key: str, texts: tuple[str, str], cell: Cell, expected: RunSpec) -> str:
    """Returns a difference in words, such as "learning rate 0.283 instead of 0.566"."""
    if key == "dataset.train_size":
        return f"{cell.train_examples:,} of {expected.train_examples:,} training examples"
    name = key.rpartition(".")[2].replace("_", " ")
    if any(text[:1] in "[{" for text in texts):
        return f"other {name}"
    paper, own = (f"{float(text):.3g}" if "." in text else f"{int(text):,}" if text.isdigit() else text for text in texts)
    return f"{name} {own} instead of {paper}"
