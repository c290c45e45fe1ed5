"""What a run will take: counted where it can be counted, timed where this machine has timed the like, else a rough guess."""

from __future__ import annotations

from dataclasses import dataclass

from gapbench.cost.calibration import base_of_worker
from gapbench.cost.compiling import worth_compiling
from gapbench.cost.learned import Basis, learned_parts
from gapbench.cost.micro_batch import MIB, micro_batch_size
from gapbench.cost.parts import CHUNK_EXAMPLES, Buckets, buckets, guessed_checkpoint_seconds
from gapbench.cost.place import Place
from gapbench.cost.pool import held_bytes
from gapbench.cost.sizes import facts_of, layers_of, model_size
from gapbench.cost.work import work_of
from gapbench.suite.runspec import RunSpec

BASE_MIB = {"cpu": 750.0, "cuda": 800.0}
"""Memory of a worker before it holds anything: Python with torch on a CPU (620 and 740 measured on two processors), a CUDA context with
its libraries on a GPU. Where workers have trained, what they held takes its place."""
HOST_MIB = 3000.0
"""Memory of the host that a GPU's worker holds before any data: Python, torch, the libraries of CUDA. A guess, to be measured."""
ACTIVATION_COPIES = {"cpu": 1.7, "cuda": 2.0}
"""Memory of an update by what its backward pass needs kept. On a CPU measured, freed blocks that the allocator keeps included: F1 at 4096
1.7 to 2.0, C1 at 512 2.1, ResNet-44 at 128 1.4. On a GPU to be measured; two, since recorded updates have memory of their own and the plain
program, to which they are held before training, has its own."""
COMPILER_MIB = 150.0
"""Memory of a worker that has compiled a network, on a CPU: F1 took 110 MiB more, ResNet-44 90. The C++ compiler is gone by then."""
EVALUATED_LAYERS = 4
"""Layers whose outputs an evaluation holds at a time. Measured on a CPU: C1 3.7, ResNet-44 4.0."""
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
    size = model_size(spec)
    found = learned_parts(spec, place, replicas=replicas, device_kind=kind)
    checkpoint = guessed_checkpoint_seconds(spec, replicas)
    return Estimate(
        updates=spec.updates,
        examples=spec.examples,
        parameters=size.parameters if size else None,
        training_flops=6.0 * size.multiplications * spec.examples * replicas if size else None,
        memory_mib=memory_mib(spec, replicas=replicas, device_kind=kind, place=place),
        buckets=buckets(found.parts, work_of(spec, replicas=replicas), checkpoint_seconds=checkpoint) if found else None,
        outside_seconds=found.parts.outside_seconds if found else 0.0,
        program_seconds=found.parts.program_seconds if found else 0.0,
        basis=found.basis if found else "unknown",
    )


def memory_mib(spec: RunSpec, *, replicas: int = 1, device_kind: str = "cpu", place: Place | None = None) -> float | None:
    """Returns the memory of a job's worker process (cpu) or on the GPU (cuda), in MiB; None where sizes are unknown."""
    data_mib = held_mib(spec, replicas=replicas, device_kind=device_kind)
    return None if data_mib is None else _base_mib(device_kind, place) + data_mib


def host_mib(spec: RunSpec, *, replicas: int = 1) -> float | None:
    """Returns the memory of the host that a job on a GPU takes, in MiB: that of its worker and of the examples as read; None: unknown."""
    facts = facts_of(spec)
    if facts is None:
        return None
    piece = micro_batch_size(spec, "cuda")
    return HOST_MIB + held_bytes(spec, facts, piece=piece, replicas=replicas, device_kind="cpu") / MIB


def idle_mib(device_kind: str) -> float:
    """Returns the memory that a worker holds before and between its jobs, in MiB: of the GPU, or on a CPU of the machine."""
    return _base_mib(device_kind, None)


def training_flops_per_update(spec: RunSpec) -> float | None:
    """Returns the floating point operations of one update of one replica, their mean, or None where the model is unknown."""
    size = model_size(spec)
    return None if size is None else 6.0 * size.multiplications * spec.examples / spec.updates


def held_mib(spec: RunSpec, *, replicas: int, device_kind: str) -> float | None:
    """Returns the memory of a job's data, weights and activations, beyond what every worker holds; None where sizes are unknown."""
    size, facts = model_size(spec), facts_of(spec)
    if size is None or facts is None:
        return None
    kind = device_kind if device_kind in ACTIVATION_COPIES else "cpu"
    piece = micro_batch_size(spec, device_kind)
    update = ACTIVATION_COPIES[kind] * replicas * piece * size.activations
    evaluation = CHUNK_EXAMPLES * size.activations * EVALUATED_LAYERS / max(EVALUATED_LAYERS, layers_of(spec))
    floats = VECTORS * replicas * size.parameters + max(update, evaluation)
    examples = held_bytes(spec, facts, piece=piece, replicas=replicas, device_kind=kind)
    compiler = COMPILER_MIB if kind == "cpu" and worth_compiling(spec, replicas=replicas, device_kind=kind) else 0.0
    return (examples + 4.0 * floats) / MIB + compiler


def _base_mib(device_kind: str, place: Place | None) -> float:
    known = None if place is None else base_of_worker(place)
    return BASE_MIB.get(device_kind, BASE_MIB["cpu"]) if known is None else known
