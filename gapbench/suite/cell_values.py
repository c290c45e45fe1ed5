"""The values that define a cell: those of a run's identity, without its seeds. Labels that stand for different values are not one cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gapbench import catalog
from gapbench.suite.identity import NEUTRAL, canonical_json, identity
from gapbench.suite.runspec import PlannedRun, RunSpec

SEEDS = frozenset({"init_seed", "order_seed", "split_seed"})
COMPONENTS = ("dataset", "model", "optimizer")
MIXED = "by seed"
"""Key of the values of a cell whose runs differ in more than their seeds."""

CellValues = Mapping[str, Any]
"""Values by key, such as `batch_size` or `model.widths`; neutral ones are left out."""


def values_of(spec: RunSpec) -> dict[str, Any]:
    """Returns the values of a run that are not its seeds, those of data set, model and optimizer as `model`, `model.widths`, ..."""
    values: dict[str, Any] = {}
    for name, value in identity(spec).items():
        if name in COMPONENTS:
            values[name] = value["name"]
            if value["version"] != 1:
                values[f"{name}.version"] = value["version"]
            values.update({f"{name}.{option}": chosen for option, chosen in value["options"].items()})
        elif name not in SEEDS:
            values[name] = value
    return values


def values_by_cell(runs: Iterable[PlannedRun]) -> dict[str, CellValues]:
    """Returns the values of every cell of a plan.

    Where an override changes a value for some seeds only, the cell has, under MIXED, the values of each group of seeds.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        values = values_of(run.spec)
        found.setdefault(run.labels.cell, {})[canonical_json(values)] = values
    return {cell: _one(list(groups.values())) for cell, groups in found.items()}


def differing(first: CellValues, second: CellValues) -> dict[str, tuple[str, str]]:
    """Returns the values in which two cells differ, by key, as texts."""
    keys = dict.fromkeys([*first, *second])
    unequal = [key for key in keys if (key in first) != (key in second) or first.get(key) != second.get(key)]
    return {key: (_text(first, key), _text(second, key)) for key in unequal}


def _one(groups: list[dict[str, Any]]) -> dict[str, Any]:
    if len(groups) == 1:
        return groups[0]
    keys = dict.fromkeys(key for values in groups for key in values)
    shared = {key: groups[0][key] for key in keys if all(key in values and values[key] == groups[0][key] for values in groups)}
    return {
        **shared,
        MIXED: sorted(canonical_json({key: value for key, value in values.items() if key not in shared}) for values in groups),
    }


def _text(values: CellValues, key: str) -> str:
    """Returns a value as people write it; one that is left out as its neutral value, where the catalog knows it."""
    if key in values:
        value = values[key]
    elif key == MIXED:
        return "the same for all seeds"
    elif any(f'"{key}":' in group for group in values.get(MIXED, ())):
        return "differs by seed"
    elif key in NEUTRAL:
        value = NEUTRAL[key]
    elif key.endswith(".version"):
        value = 1
    else:
        component, _, option = key.partition(".")
        value = _neutral(component, values.get(component), option)
    if value is None:
        return {"ghost_batch_size": "off", "clip_norm": "off"}.get(key, "not set")
    return value if isinstance(value, str) else canonical_json(value)


def _neutral(component: str, name: Any, option: str) -> Any:
    registries: dict[str, Mapping[str, Any]] = {
        "dataset": catalog.datasets(),
        "model": catalog.models(),
        "optimizer": catalog.optimizers(),
    }
    entries = registries[component]
    parameters = entries[name].parameters if name in entries else {}
    return parameters[option].neutral if option in parameters else None
