"""Which runs share a program, so that they may train as one stack, and where a stack pays."""

from __future__ import annotations

import json
from typing import Any

from gapbench import catalog
from gapbench.cost.estimate import training_flops_per_update
from gapbench.suite.runspec import Component, RunSpec

HYPERPARAMETERS = frozenset(
    {
        "learning_rate",
        "warmup",
        "warmup_start",
        "phases",
        "weight_decay",
        "initial_perturbation",
        "seed",
        "init_seed",
        "order_seed",
        "split_seed",
        "fold",
        # What only explains the run:
        "reference_batch_size",
        "reference_updates",
        "reference_learning_rate",
        "split_drawn",
    }
)
"""Fields that may differ between the replicas of one stack. Every other field fixes shapes, kernels or the schedule of evaluations."""

STACK_BELOW_FLOPS = {"cpu": 5e7, "cuda": 1e10}
"""A stack pays while an update of one replica has fewer floating point operations than this: it is then bound by the fixed
cost of its kernels, which a stack pays once for all replicas. On a CPU core, digits at batch 16 has 4e6, at batch 512 1.3e8."""


def program_key(spec: RunSpec) -> tuple[str, ...]:
    """Returns what two runs must have in common to train as one stack: equal keys may train together.

    All of the spec but its hyperparameters (learning rate, momentum, weight decay, phases, warmup) and seeds.
    """
    fields = {name: value for name, value in spec.model_dump(mode="json").items() if name not in HYPERPARAMETERS}
    fields["optimizer"] = _without_momentum(spec.optimizer)
    if spec.batches.grows:
        fields["batches"] = spec.batches.stretches
    return tuple(f"{name}={json.dumps(value, sort_keys=True)}" for name, value in sorted(fields.items()))


def stack_pays(spec: RunSpec, device_kind: str) -> bool:
    """Returns whether several runs of this program train faster as one stack than one after another."""
    models = catalog.models()
    if spec.adaptive_batch is not None:
        return False  # each run's batches have sizes of their own
    if spec.model.name not in models or not models[spec.model.name].stackable:
        return False
    flops = training_flops_per_update(spec)
    return flops is not None and flops < STACK_BELOW_FLOPS.get(device_kind, 0.0)


def _without_momentum(optimizer: Component) -> dict[str, Any]:
    options = {name: value for name, value in optimizer.options.items() if name != "momentum"}
    return {"name": optimizer.name, "version": optimizer.version, "options": options}
