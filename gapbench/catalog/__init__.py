"""What exists, as data: data sets, models, optimizers, regimes, recipes and probes, one TOML table each, read once.

    catalog.models()["mlp"].parameters["widths"].default

Nothing here imports a component: its `target` names it. Plugins add entries to the same registries.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, TypeVar

from gapbench.catalog.entries import (
    BatchRule,
    Budget,
    ComponentEntry,
    DatasetEntry,
    Entry,
    ModelEntry,
    NoiseRule,
    OptimizerEntry,
    Preset,
    ProbeEntry,
    RecipeEntry,
    RegimeEntry,
)
from gapbench.catalog.parameters import Parameter, check_options, show
from gapbench.core.registry import Registry

__all__ = [
    "REGISTRIES",
    "BatchRule",
    "Budget",
    "ComponentEntry",
    "DatasetEntry",
    "Entry",
    "ModelEntry",
    "NoiseRule",
    "OptimizerEntry",
    "Parameter",
    "Preset",
    "ProbeEntry",
    "RecipeEntry",
    "RegimeEntry",
    "check_options",
    "datasets",
    "models",
    "optimizers",
    "probes",
    "recipes",
    "regimes",
    "show",
]

E = TypeVar("E", bound=Entry)


@functools.cache
def datasets() -> Registry[DatasetEntry]:
    """Returns the data sets by name."""
    return _read("dataset", DatasetEntry)


@functools.cache
def models() -> Registry[ModelEntry]:
    """Returns the models by name."""
    return _read("model", ModelEntry)


@functools.cache
def optimizers() -> Registry[OptimizerEntry]:
    """Returns the optimizers by name."""
    return _read("optimizer", OptimizerEntry)


@functools.cache
def regimes() -> Registry[RegimeEntry]:
    """Returns the regimes by name; a suite's own `[regimes.NAME]` are not among them."""
    return _read("regime", RegimeEntry)


@functools.cache
def recipes() -> Registry[RecipeEntry]:
    """Returns the recipes by name."""
    return _read("recipe", RecipeEntry)


@functools.cache
def probes() -> Registry[ProbeEntry]:
    """Returns the probes by name."""
    return _read("probe", ProbeEntry)


def _read(kind: str, entry: type[E]) -> Registry[E]:
    registry: Registry[E] = Registry(kind)
    text = resources.files("gapbench.catalog").joinpath(f"{kind}s.toml").read_text(encoding="utf-8")
    for name, table in tomllib.loads(text).items():
        registry.add(name, entry.model_validate({"name": name, **table}))
    return registry


REGISTRIES: Mapping[str, Callable[[], Registry[Any]]] = {
    "dataset": datasets,
    "model": models,
    "regime": regimes,
    "optimizer": optimizers,
    "recipe": recipes,
    "probe": probes,
}
"""Of every kind of thing that exists, by its name."""
