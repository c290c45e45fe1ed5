"""The identity of a run: a readable slug and a hash of every value that can change its numbers, and of nothing else.

A field that equals its default in `RunValues`, or an option that equals its neutral value in the catalog, is left out, so that adding one
keeps the ids of all older runs. Both are frozen; the golden file of the tests holds them to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from gapbench import catalog
from gapbench.suite.runspec import Component, PlannedRun, RunSpec, RunValues
from gapbench.suite.schema import SEEDS
from gapbench.suite.source import COMPONENTS

_REQUIRED = [name for name, field in RunValues.model_fields.items() if field.is_required() and name not in COMPONENTS]


def run_id(spec: RunSpec) -> str:
    """Returns the id of a run: equal values have equal ids, whatever their labels, device or suite.

    Such as `digits-mlp-b512-g16-lr0.566-u1687-s3-0f1e2d3c4b5a`.
    """
    digest = hashlib.blake2b(canonical_json(identity(spec)).encode(), digest_size=6).hexdigest()
    return f"{_slug(spec)}-{digest}"


def identity(spec: RunSpec) -> dict[str, Any]:
    """Returns the values that make up the identity, neutral ones left out."""
    values: dict[str, Any] = {kind: _component(getattr(spec, kind), catalog.REGISTRIES[kind]()) for kind in COMPONENTS}
    plain = _plain(spec.model_dump(mode="json", include={*_REQUIRED, *NEUTRAL}))
    values.update({name: plain[name] for name in _REQUIRED})
    values.update({name: plain[name] for name, neutral in NEUTRAL.items() if plain[name] != neutral})
    return values


def canonical_json(value: Any) -> str:
    """Returns JSON that depends on the values only: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _component(component: Component, registry: Mapping[str, Any]) -> dict[str, Any]:
    parameters = registry[component.name].parameters if component.name in registry else {}
    options = {}
    for name, value in component.options.items():
        neutral = parameters[name].neutral if name in parameters else None
        if neutral is None or value != neutral:
            options[name] = value
    if component.option("content"):
        options.pop("path", None)  # the data count, not where they lie
    return {"name": component.name, "version": component.version, "options": options}


def _plain(dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Returns dumped values without those parts of phases, normalization and noise that say nothing."""
    phases = [{name: value for name, value in phase.items() if value is not None} for phase in dumped["phases"]]
    noise = dumped["gradient_noise"]
    return {
        **dumped,
        "phases": [{name: value for name, value in phase.items() if (name, value) != ("batch_size_factor", 1.0)} for phase in phases],
        "normalization": {name: value for name, value in dumped["normalization"].items() if value != []},
        "gradient_noise": noise and {name: value for name, value in noise.items() if value is not None},
    }


NEUTRAL: Mapping[str, Any] = _plain(
    {name: to_jsonable_python(field.default) for name, field in RunValues.model_fields.items() if not field.is_required()}
)
"""The value of each field under which it is left out."""


def _slug(spec: RunSpec) -> str:
    """Returns what a reader wants to see of a run; a function of its identity, so that equal runs have equal names."""
    ghost = "" if spec.ghost_batch_size is None else f"-g{spec.ghost_batch_size}"
    seeds = f"s{spec.order_seed}" if spec.init_seed == spec.order_seed else f"i{spec.init_seed}-o{spec.order_seed}"
    text = f"{spec.dataset.name}-{spec.model.name}-b{spec.batch_size}{ghost}-lr{spec.learning_rate:.3g}-u{spec.updates}-{seeds}"
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower())


# The values that define a cell: those of a run's identity, without its seeds. Labels that stand for different values are not one cell.

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
    entry = catalog.REGISTRIES[component]().find(name)
    return entry.parameters[option].neutral if entry and option in entry.parameters else None
