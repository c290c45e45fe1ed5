"""The examples of a run in memory: how much they take, and whether they lie on the device or stay on the disk, to be fetched in time.

Both give the same batches, bit by bit; the choice follows from the memory that there is.
"""

from __future__ import annotations

import math

from gapbench.core.machine import MIB, total_memory_mib
from gapbench.suite.facts import DatasetFacts
from gapbench.suite.runspec import RunSpec

RESIDENT_SHARE = 0.5
"""Of the memory that is free when training begins. A pool that takes more stays on the disk: the rest is for weights and activations."""
ASSUMED_GPU_MIB = 80.0 * 1024
"""Memory of the GPU, for planning: that of the one that will train may not be at hand. An A100 or H100."""
BLOCK_EXAMPLES = 2048
"""Examples of one replica that a feed fetches: several updates at once where batches are small, to save calls."""
BLOCK_BYTES = 1 << 28
"""Of the inputs of such a block, as floats: several updates at once only where images are small."""
LABEL_BYTES = 8


def block_size(piece: int, example_numbers: int) -> int:
    """Returns how many examples of one replica a feed fetches at once: a multiple of `piece`, and at least that.

    Args:
        piece: examples that are computed at once.
        example_numbers: numbers of one input.
    """
    most = min(BLOCK_EXAMPLES, BLOCK_BYTES // (4 * max(1, example_numbers)))
    return max(1, most // piece) * piece


def input_shape(spec: RunSpec, facts: DatasetFacts) -> tuple[int, ...]:
    """Returns the shape of what the model takes: (height, width, channels), after crops, or (features,)."""
    return cropped(facts, spec.crop_size)


def cropped(facts: DatasetFacts, crop_size: int) -> tuple[int, ...]:
    """Returns the shape of examples from which squares of `crop_size` are cut; 0: no crops."""
    return (crop_size, crop_size, facts.shape[2]) if crop_size and facts.is_image else facts.shape


def pool_bytes(spec: RunSpec, facts: DatasetFacts) -> int:
    """Returns what all examples take where they lie on the device, padded for crops."""
    if not facts.is_image:
        return _examples(facts) * (math.prod(facts.shape) * 4 + LABEL_BYTES)
    height, width, channels = facts.shape
    return _examples(facts) * ((height + 2 * spec.crop_padding) * (width + 2 * spec.crop_padding) * channels + LABEL_BYTES)


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
    resident = pool_bytes(spec, facts)
    # A recorded update reads its batch, all micro-batches, at a place of its own.
    placed = 4 * replicas * spec.batches.largest * math.prod(input_shape(spec, facts)) if device_kind == "cuda" else 0
    total = ASSUMED_GPU_MIB if device_kind == "cuda" else total_memory_mib()
    if resident > RESIDENT_SHARE * total * MIB:
        fetched = facts.shape if spec.crop_scale else input_shape(spec, facts)
        block = block_size(piece, math.prod(input_shape(spec, facts)))
        return 2 * replicas * block * math.prod(fetched) * (1 if facts.is_image else 4) + placed
    if device_kind == "cuda":
        return resident + placed
    as_read = math.prod(facts.shape) * (1 if facts.is_image else 4) + LABEL_BYTES
    return resident + _examples(facts) * as_read


def _examples(facts: DatasetFacts) -> int:
    return facts.train_examples + facts.test_examples
