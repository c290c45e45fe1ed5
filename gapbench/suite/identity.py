"""The identity of a run: a readable slug and a hash of every value that can change its numbers, and of nothing else.

A field or option that equals its neutral value is left out, so that adding one keeps the ids of all older runs. Neutral
values are frozen: they are not the defaults, which may change. The golden file of the tests holds both to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from gapbench import catalog
from gapbench.suite.runspec import Component, RunSpec

ALWAYS = ("batch_size", "updates", "learning_rate")
"""Plain fields that are always part of the identity."""

NEUTRAL: dict[str, Any] = {
    "ghost_batch_size": None,
    "unramped_updates": None,
    "adaptive_batch": None,
    "tail": "stream",
    "warmup": 0.0,
    "warmup_start": 0.0,
    "phases": [{"start": 0.0, "learning_rate_factor": 1.0}],
    "weight_decay": 0.0,
    "weight_decay_on": "all",
    "clip_norm": None,
    "momentum_reset": "never",
    "crop_padding": 0,
    "crop_fill": 0,
    "crop_size": 0,
    "crop_scale": 0.0,
    "flip": False,
    "normalization": {"kind": "global"},
    "running_statistics": "mean",
    "norm_momentum": 0.1,
    "gradient_noise": None,
    "sampling": "permutation",
    "augmentation_epochs": None,
    "initial_perturbation": 0.0,
    "headline_statistics": "running",
    "precision": "fp32",
    "headline_evaluations": 1,
    "holdout": 0.0,
    "fold": 0,
    "init_seed": 0,
    "order_seed": 0,
    "split_seed": 0,
}
"""Frozen: the value of each field under which it is left out."""

WITHOUT_EFFECT = frozenset(
    {
        "seed",  # what it stands for is in init_seed, order_seed and split_seed
        "train_examples",
        "reference_batch_size",
        "reference_updates",
        "reference_learning_rate",
        "split_drawn",
        "evaluations",
        "keep_weights",
        "probes",
        "time_limit_seconds",
        "test_evaluation",
    }
)
"""Fields that change no trained number."""


def run_id(spec: RunSpec) -> str:
    """Returns the id of a run: equal values have equal ids, whatever their labels, device or suite.

    Such as `digits-mlp-b512-g16-lr0.566-u1687-s3-0f1e2d3c4b5a`.
    """
    digest = hashlib.blake2b(canonical_json(identity(spec)).encode(), digest_size=6).hexdigest()
    return f"{_slug(spec)}-{digest}"


def identity(spec: RunSpec) -> dict[str, Any]:
    """Returns the values that make up the identity, neutral ones left out."""
    values: dict[str, Any] = {
        "dataset": _component(spec.dataset, catalog.datasets()),
        "model": _component(spec.model, catalog.models()),
        "optimizer": _component(spec.optimizer, catalog.optimizers()),
    }
    dumped = spec.model_dump(mode="json", include={*ALWAYS, *NEUTRAL})
    dumped["phases"] = [_without_neutral(phase) for phase in dumped["phases"]]
    dumped["normalization"] = {name: value for name, value in dumped["normalization"].items() if value != []}
    if dumped["gradient_noise"] is not None:
        dumped["gradient_noise"] = {name: value for name, value in dumped["gradient_noise"].items() if value is not None}
    values.update({name: dumped[name] for name in ALWAYS})
    values.update({name: dumped[name] for name, neutral in NEUTRAL.items() if dumped[name] != neutral})
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


def _without_neutral(phase: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in phase.items() if value is not None and (name, value) != ("batch_size_factor", 1.0)}


def _slug(spec: RunSpec) -> str:
    """Returns what a reader wants to see of a run; a function of its identity, so that equal runs have equal names."""
    ghost = "" if spec.ghost_batch_size is None else f"-g{spec.ghost_batch_size}"
    seeds = f"s{spec.order_seed}" if spec.init_seed == spec.order_seed else f"i{spec.init_seed}-o{spec.order_seed}"
    text = f"{spec.dataset.name}-{spec.model.name}-b{spec.batch_size}{ghost}-lr{spec.learning_rate:.3g}-u{spec.updates}-{seeds}"
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower())
