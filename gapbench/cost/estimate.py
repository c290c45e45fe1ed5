"""What a run will take: counted where it can be counted, measured where this machine has trained the like, else a rough guess."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gapbench.cost import calibration
from gapbench.cost.architectures import Size
from gapbench.cost.micro_batch import MIB, micro_batch_size
from gapbench.cost.sizes import facts_of, model_size
from gapbench.suite.facts import DatasetFacts
from gapbench.suite.runspec import RunSpec

Basis: TypeAlias = Literal["measured", "rough", "unknown"]

BASE_MIB = {"cpu": 850.0, "cuda": 800.0}
"""Memory of a worker before it holds anything: Python with torch (measured) on a CPU, a CUDA context with its libraries on a GPU."""
VECTORS = 5
"""Floats per parameter: weights, gradients, momentum, initial weights (for the weight distance), and one for temporaries."""
FLOPS_PER_SECOND = {"cpu": 5e10, "cuda": 3e13}
"""Rough guess at what an update reaches, of one core or of one GPU."""
LAYER_SECONDS = {"cpu": 2e-4, "cuda": 1e-4}
"""Rough guess at the fixed cost of a layer's kernels in one update."""
PARAMETER_SECONDS = {"cpu": 5e-9, "cuda": 2e-11}
"""Rough guess at what moving one weight costs in one update: gradient, norm, optimizer and probes pass over all of them."""


@dataclass(frozen=True)
class Estimate:
    """What a job of one run, or of a stack of replicas of one program, will take."""

    updates: int
    """Of one replica."""
    examples: int
    """Of one replica."""
    parameters: int | None
    """Of one replica; None: unknown."""
    training_flops: float | None
    """Of all replicas: 6 for each multiply-add of a forward pass (2 forward, 4 backward)."""
    memory_mib: float | None
    """Of the worker process (cpu) or of the GPU (cuda)."""
    seconds: float | None
    """Of the whole job, evaluations included."""
    basis: Basis
    """Where `seconds` come from: measured on this machine, a rough guess, or unknown."""


def estimate(spec: RunSpec, *, replicas: int = 1, device_kind: str = "cpu") -> Estimate:
    """Returns what a job will take.

    Args:
        spec: of a run; those of the other replicas of a stack share its program.
        replicas: runs that train as one stack.
        device_kind: "cpu" (one core) or "cuda".
    """
    size, facts = model_size(spec), facts_of(spec)
    measured = calibration.lookup(spec, replicas=replicas, device_kind=device_kind)
    if size is None or facts is None:
        seconds = None if measured is None else spec.updates * measured
        return Estimate(spec.updates, spec.examples, None, None, None, seconds, "unknown" if seconds is None else "measured")
    guess = guessed_seconds_per_update(spec, replicas=replicas, device_kind=device_kind)
    per_update = measured
    if per_update is None and guess is not None:
        per_update = guess * calibration.correction(spec, device_kind=device_kind)
    tests = spec.dataset.option("test_size", 0) or facts.test_examples
    evaluated = spec.evaluations * 2 * size.multiplications * (tests + min(tests, spec.train_examples))
    evaluation_seconds = replicas * evaluated / FLOPS_PER_SECOND.get(device_kind, FLOPS_PER_SECOND["cpu"])
    return Estimate(
        updates=spec.updates,
        examples=spec.examples,
        parameters=size.parameters,
        training_flops=6.0 * size.multiplications * spec.examples * replicas,
        memory_mib=_memory_mib(spec, size, facts, replicas, device_kind),
        seconds=None if per_update is None else spec.updates * per_update + evaluation_seconds,
        basis="rough" if measured is None else "measured",
    )


def training_flops_per_update(spec: RunSpec) -> float | None:
    """Returns the floating point operations of one update of one replica, or None where the model is unknown."""
    size = model_size(spec)
    return None if size is None else 6.0 * size.multiplications * spec.batch_size


def guessed_seconds_per_update(spec: RunSpec, *, replicas: int, device_kind: str) -> float | None:
    """Returns a rough guess at the seconds of one update of all replicas, or None where the model is unknown."""
    size = model_size(spec)
    if size is None:
        return None
    kind = device_kind if device_kind in FLOPS_PER_SECOND else "cpu"
    layers = {"mlp": len(spec.model.option("widths", ())) + 1, "f1": 6, "resnet": int(spec.model.option("depth", 0))}.get(
        spec.model.name, 5
    )
    by_example = 6.0 * size.multiplications * spec.batch_size / FLOPS_PER_SECOND[kind]
    return 1e-4 + layers * LAYER_SECONDS[kind] + replicas * (size.parameters * PARAMETER_SECONDS[kind] + by_example)


def _memory_mib(spec: RunSpec, size: Size, facts: DatasetFacts, replicas: int, device_kind: str) -> float:
    bytes_per_number = 1 if facts.is_image else 4
    pool = (facts.train_examples + facts.test_examples) * (math.prod(facts.shape) * bytes_per_number + 8)
    floats = replicas * (VECTORS * size.parameters + micro_batch_size(spec, device_kind) * size.activations)
    return BASE_MIB.get(device_kind, BASE_MIB["cpu"]) + (pool + 4.0 * floats) / MIB
