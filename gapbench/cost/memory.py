"""The memory of a job: of its worker's process on a CPU; of the GPU, and of the machine beside it, on a GPU."""

from __future__ import annotations

import math

from gapbench.core.machine import MIB, total_memory_mib
from gapbench.cost.calibration import Place, base_of_worker
from gapbench.sizing.decisions import RESIDENT_SHARE, block_size, micro_batch_size, recomputes, worth_compiling
from gapbench.sizing.kinds import GPU_HOST_MIB, GPU_MIB, KINDS
from gapbench.sizing.sizes import facts_of, input_shape, model_size
from gapbench.suite.batches import CHUNK_EXAMPLES
from gapbench.suite.facts import DatasetFacts
from gapbench.suite.runspec import RunSpec

COMPILER_MIB = 150.0
"""Memory of a worker that has compiled a network, on a CPU: F1 took 110 MiB more, ResNet-44 90. The C++ compiler is gone by then."""
EVALUATED_LAYERS = 4
"""Layers whose outputs an evaluation holds at a time. Measured on a CPU: C1 3.7, ResNet-44 4.0."""
VECTORS = 5
"""Floats per parameter: weights, gradients, momentum, initial weights (for the weight distance), and one for temporaries."""
LABEL_BYTES = 8


def memory_mib(spec: RunSpec, *, replicas: int = 1, device_kind: str = "cpu", place: Place | None = None) -> float | None:
    """Returns the memory of a job's worker process (cpu) or on the GPU (cuda), in MiB; None where sizes are unknown."""
    held = held_mib(spec, replicas=replicas, device_kind=device_kind)
    known = None if place is None else base_of_worker(place)
    return None if held is None else held + (idle_mib(device_kind) if known is None else known)


def host_mib(spec: RunSpec, *, replicas: int = 1) -> float | None:
    """Returns the memory of the host that a job on a GPU takes, in MiB: that of its worker and of the examples as read; None: unknown."""
    facts = facts_of(spec)
    if facts is None:
        return None
    piece = micro_batch_size(spec, "cuda")
    return GPU_HOST_MIB + held_bytes(spec, facts, piece=piece, replicas=replicas, device_kind="cpu") / MIB


def idle_mib(device_kind: str) -> float:
    """Returns the memory that a worker holds before and between its jobs, in MiB: of the GPU, or on a CPU of the machine."""
    return KINDS[device_kind].worker_mib


def held_mib(spec: RunSpec, *, replicas: int, device_kind: str) -> float | None:
    """Returns the memory of a job's data, weights and activations, beyond what every worker holds; None where sizes are unknown."""
    size, facts = model_size(spec), facts_of(spec)
    if size is None or facts is None:
        return None
    piece = micro_batch_size(spec, device_kind)
    kept = size.recomputed if recomputes(spec, device_kind) else size.activations
    update = KINDS[device_kind].activation_copies * replicas * piece * kept
    evaluation = CHUNK_EXAMPLES * size.activations * EVALUATED_LAYERS / max(EVALUATED_LAYERS, size.layers)
    kept = spec.extrapolation.workers if spec.extrapolation is not None else 0  # gradients of workers
    floats = (VECTORS + kept) * replicas * size.parameters + max(update, evaluation)
    examples = held_bytes(spec, facts, piece=piece, replicas=replicas, device_kind=device_kind)
    compiler = COMPILER_MIB if device_kind == "cpu" and worth_compiling(spec, replicas=replicas, device_kind=device_kind) else 0.0
    return (examples + 4.0 * floats) / MIB + compiler


def held_bytes(spec: RunSpec, facts: DatasetFacts, *, piece: int, replicas: int, device_kind: str) -> int:
    """Returns what the examples of a job take: of the worker's memory (cpu) or of the GPU's.

    On a CPU a resident pool counts twice, as it was read and as it is trained on. Of one that stays on the disk only the blocks that
    are fetched count: the one in use and the next.

    Args:
        spec: of a run.
        facts: of its data set.
        piece: examples that are computed at once.
        replicas: that train together.
        device_kind: "cpu" or "cuda".
    """
    resident, numbers = _pool_bytes(spec, facts), math.prod(input_shape(spec, facts))
    # A recorded update reads its batch, all micro-batches, at a place of its own.
    placed = 4 * replicas * spec.batches.largest * numbers if device_kind == "cuda" else 0
    value_bytes = 1 if facts.is_image else 4
    if resident > RESIDENT_SHARE * MIB * (GPU_MIB if device_kind == "cuda" else total_memory_mib()):
        fetched = facts.shape if spec.crop_scale else input_shape(spec, facts)
        return 2 * replicas * block_size(piece, numbers) * math.prod(fetched) * value_bytes + placed
    if device_kind == "cuda":
        return resident + placed
    return resident + _examples(facts) * (math.prod(facts.shape) * value_bytes + LABEL_BYTES)


def _pool_bytes(spec: RunSpec, facts: DatasetFacts) -> int:
    """Returns what all examples take where they lie on the device, padded for crops."""
    if not facts.is_image:
        return _examples(facts) * (math.prod(facts.shape) * 4 + LABEL_BYTES)
    height, width, channels = facts.shape
    return _examples(facts) * ((height + 2 * spec.crop_padding) * (width + 2 * spec.crop_padding) * channels + LABEL_BYTES)


def _examples(facts: DatasetFacts) -> int:
    return facts.train_examples + facts.test_examples
