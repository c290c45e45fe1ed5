"""Sizes of a run's model and data set, as far as they are known before anything is loaded."""

from __future__ import annotations

import functools

from gapbench.core.errors import DataError, UnknownNameError
from gapbench.cost.architectures import Size, size_of
from gapbench.cost.pool import cropped
from gapbench.suite.facts import DatasetFacts, dataset_facts
from gapbench.suite.runspec import Component, RunSpec


def model_size(spec: RunSpec) -> Size | None:
    """Returns the size of a run's model for its data set, or None where it is unknown: a plugin's model, or data that are not there."""
    return _model_size(spec.model.model_dump_json(), spec.dataset.model_dump_json(), spec.crop_size)


@functools.lru_cache(maxsize=64)
def _model_size(model: str, dataset: str, crop_size: int) -> Size | None:
    facts, component = _facts_of(dataset), Component.model_validate_json(model)
    return None if facts is None else size_of(component.name, component.options, cropped(facts, crop_size), facts.classes)


def layers_of(spec: RunSpec) -> int:
    """Returns roughly how many layers with weights a model has."""
    by_name = {"mlp": len(spec.model.option("widths", ())) + 1, "f1": 6, "alexnet": 8}
    return max(1, by_name.get(spec.model.name, int(spec.model.option("depth", 5))))


def facts_of(spec: RunSpec) -> DatasetFacts | None:
    """Returns what is known of a run's data set without reading it, or None where that is nothing."""
    return _facts_of(spec.dataset.model_dump_json())


@functools.lru_cache(maxsize=64)
def _facts_of(component: str) -> DatasetFacts | None:
    try:
        return dataset_facts(Component.model_validate_json(component))
    except (DataError, UnknownNameError):
        return None
