"""What exists, as data: data sets, models, tasks, metrics, optimizers, regimes, recipes and probes, one TOML table each, read once.

    catalog.models()["mlp"].parameters["widths"].default

Nothing here imports a component: its `target` names it. Plugins add entries to the same registries.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from typing import Any, TypeVar

from gapbench.catalog.entries import (
    BatchRule as BatchRule,
    Budget as Budget,
    ComponentEntry as ComponentEntry,
    DatasetEntry as DatasetEntry,
    Entry as Entry,
    Metric as Metric,
    ModelEntry as ModelEntry,
    NoiseRule as NoiseRule,
    OptimizerEntry as OptimizerEntry,
    Preset as Preset,
    ProbeEntry as ProbeEntry,
    RecipeEntry as RecipeEntry,
    RegimeEntry as RegimeEntry,
    Task as Task,
)
from gapbench.catalog.parameters import Parameter as Parameter, check_options as check_options, show as show
from gapbench.core.registry import Registry

E = TypeVar("E", bound=Entry)

SPLITS = ("test", "train", "validation")
"""Sets of examples that metrics are measured on, in the order of columns."""


@functools.cache
def datasets() -> Registry[DatasetEntry]:
    """Returns the data sets by name."""
    return _read("dataset", DatasetEntry)


@functools.cache
def models() -> Registry[ModelEntry]:
    """Returns the models by name."""
    return _read("model", ModelEntry)


@functools.cache
def metrics() -> Registry[Metric]:
    """Returns the metrics by name, in the order of columns."""
    return _read("metric", Metric)


@functools.cache
def tasks() -> Registry[Task]:
    """Returns the tasks by name."""
    return _read("task", Task, _with_metrics)


def task_of(model: str) -> Task:
    """Returns the task of a model. Raises UnknownNameError where the catalog has no such model."""
    return tasks()[models()[model].task]


def measured_task(columns: Iterable[str]) -> Task:
    """Returns the task of runs that have values in such columns, whose model need not be known: the first whose headline they have.

    Without any, as before the first evaluation, it is the first task: classification.
    """
    found = set(columns)
    ends = [task for task in tasks().values() if any(task.headline.column(split) in found for split in SPLITS)]
    return ends[0] if ends else next(iter(tasks().values()))


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


def _with_metrics(table: dict[str, Any]) -> dict[str, Any]:
    """Puts metrics in the place of their names."""
    return {**table, "metrics": tuple(metrics()[name] for name in table["metrics"]), "headline": metrics()[table["headline"]]}


def _read(kind: str, entry: type[E], complete: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Registry[E]:
    registry: Registry[E] = Registry(kind)
    text = resources.files("gapbench.catalog").joinpath(f"{kind}s.toml").read_text(encoding="utf-8")
    for name, table in tomllib.loads(text).items():
        registry.add(name, entry.model_validate(complete({"name": name, **table})))
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
