"""What a run will take: counted where it can be counted, timed where this machine has timed the like, else a rough guess."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gapbench.cost.architectures import Size
from gapbench.cost.learned import Basis, learned_parts
from gapbench.cost.micro_batch import MIB, micro_batch_size
from gapbench.cost.parts import Buckets, buckets, guessed_checkpoint_seconds
from gapbench.cost.place import Place
from gapbench.cost.sizes import facts_of, model_size
from gapbench.cost.work import work_of
from gapbench.suite.facts import DatasetFacts
from gapbench.suite.runspec import RunSpec

BASE_MIB = {"cpu": 850.0, "cuda": 800.0}
"""Memory of a worker before it holds anything: Python with torch (measured) on a CPU, a CUDA context with its libraries on a GPU."""
VECTORS = 5
"""Floats per parameter: weights, gradients, momentum, initial weights (for the weight distance), and one for temporaries."""


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
    buckets: Buckets | None
    """Seconds of the whole job as results record them: training, evaluation, everything else. None: unknown."""
    outside_seconds: float
    """What the job keeps its slot busy beyond that: reading data, writing files."""
    program_seconds: float
    """What it takes more where it is the first of its program in a worker."""
    basis: Basis
    """Where the seconds come from: measured by jobs of this machine, calibrated by a short measurement, a rough guess, or unknown."""

    @property
    def seconds(self) -> float | None:
        """Of the whole job, evaluations included: what results will record."""
        return None if self.buckets is None else self.buckets.total


def estimate(spec: RunSpec, *, replicas: int = 1, device_kind: str = "cpu", place: Place | None = None) -> Estimate:
    """Returns what a job will take.

    Args:
        spec: of a run; those of the other replicas of a stack share its program.
        replicas: runs that train as one stack.
        device_kind: "cpu" (one core) or "cuda".
        place: where it would train, so that what was timed there counts; its device kind then holds. Default: seconds are a guess.
    """
    kind = place.device_kind if place else device_kind
    size, facts = model_size(spec), facts_of(spec)
    found = learned_parts(spec, place, replicas=replicas, device_kind=kind)
    checkpoint = guessed_checkpoint_seconds(spec, replicas)
    return Estimate(
        updates=spec.updates,
        examples=spec.examples,
        parameters=size.parameters if size else None,
        training_flops=6.0 * size.multiplications * spec.examples * replicas if size else None,
        memory_mib=_memory_mib(spec, size, facts, replicas, kind) if size and facts else None,
        buckets=buckets(found.parts, work_of(spec), checkpoint_seconds=checkpoint) if found else None,
        outside_seconds=found.parts.outside_seconds if found else 0.0,
        program_seconds=found.parts.program_seconds if found else 0.0,
        basis=found.basis if found else "unknown",
    )


def training_flops_per_update(spec: RunSpec) -> float | None:
    """Returns the floating point operations of one update of one replica, or None where the model is unknown."""
    size = model_size(spec)
    return None if size is None else 6.0 * size.multiplications * spec.batch_size


def _memory_mib(spec: RunSpec, size: Size, facts: DatasetFacts, replicas: int, device_kind: str) -> float:
    bytes_per_number = 1 if facts.is_image else 4
    pool = (facts.train_examples + facts.test_examples) * (math.prod(facts.shape) * bytes_per_number + 8)
    floats = replicas * (VECTORS * size.parameters + micro_batch_size(spec, device_kind) * size.activations)
    return BASE_MIB.get(device_kind, BASE_MIB["cpu"]) + (pool + 4.0 * floats) / MIB
