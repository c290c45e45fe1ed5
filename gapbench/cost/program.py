"""Which runs share a program, so that they may train as one stack, and where a stack pays."""

from __future__ import annotations

import json
from typing import Any

from gapbench import catalog
from gapbench.suite.runspec import Component, RunSpec

HYPERPARAMETERS = frozenset(
    {
        "learning_rate",
        "warmup",
        "warmup_start",
        "phases",
        "weight_decay",
        "seed",
        "init_seed",
        "order_seed",
        "split_seed",
        # What only names or explains the run:
        "reference_batch_size",
        "reference_updates",
        "reference_learning_rate",
        "split_drawn",
    }
)
"""Fields that may differ between the replicas of one stack. Every other field fixes shapes, kernels or the schedule of evaluations."""


def program_key(spec: RunSpec) -> tuple[str, ...]:
    """Returns what two runs must have in common to train as one stack: equal keys may train together.

    All of the spec but its hyperparameters (learning rate, momentum, weight decay, phases, warmup) and seeds.
    """
    fields = {name: value for name, value in spec.model_dump(mode="json").items() if name not in HYPERPARAMETERS}
    fields["optimizer"] = _without_momentum(spec.optimizer)
    return tuple(f"{name}={json.dumps(value, sort_keys=True)}" for name, value in sorted(fields.items()))


def _without_momentum(optimizer: Component) -> dict[str, Any]:
    options = {name: value for name, value in optimizer.options.items() if name != "momentum"}
    return {"name": optimizer.name, "version": optimizer.version, "options": options}


def stack_pays(spec: RunSpec, device_kind: str) -> bool:
    """Returns whether several runs of this program train faster as one stack than one after another."""
    models = catalog.models()
    return spec.model.name in models and models[spec.model.name].stackable
