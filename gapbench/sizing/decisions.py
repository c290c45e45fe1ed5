"""How a run trains, decided by its spec and the kind of device alone, so that planning and training decide alike.

Into which micro-batches its updates are cut, whether its blocks are recomputed, whether its network is compiled, which runs share a stack,
and whether its examples lie on the device. Nothing here looks at a clock or at memory that happens to be free, so that a run gives the
same bits wherever and however often it is started.
"""

from __future__ import annotations

import json
from typing import Any

from gapbench import catalog
from gapbench.core.machine import MIB
from gapbench.sizing.kinds import GPU_COMPILED_FROM, KINDS
from gapbench.sizing.sizes import model_size
from gapbench.suite.runspec import HYPERPARAMETERS, Component, RunSpec, has_batch_norm

# Micro-batches: the batch of an update is cut where that is exact.


def micro_batch_size(spec: RunSpec, device_kind: str) -> int:
    """Returns how many examples of a run are computed at once: the whole batch, or the largest exact piece within the bound.

    Args:
        spec: of the run.
        device_kind: "cpu" or "cuda".
    """
    sizes = exact_sizes(spec)
    size = model_size(spec) if len(sizes) > 1 else None
    if size is None:
        return sizes[-1]
    bound = KINDS[device_kind].piece_mib * MIB / 4.0 / max(1, size.activations)
    fitting = [examples for examples in sizes if examples <= bound]
    return max(fitting) if fitting else min(sizes)


def exact_sizes(spec: RunSpec) -> list[int]:
    """Returns the sizes of micro-batches that make the update of the whole batch, ascending; the last is the (largest) batch size.

    Of a run that extrapolates by workers the last is the share of one.

    These are the divisors of the batch size that the ghost batch size divides, or, without batch norm, all its divisors. Plain batch
    norm is never cut: that would make it ghost batch norm. Smaller batches of the same run are cut into as many of these as they hold.
    """
    largest = spec.batches.largest // (1 if spec.extrapolation is None else spec.extrapolation.workers)
    unit = spec.ghost_batch_size if spec.ghost_batch_size is not None else largest if has_batch_norm(spec.model) else 1
    pieces = largest // unit
    return [unit * count for count in range(1, pieces + 1) if pieces % count == 0]


def recomputes(spec: RunSpec, device_kind: str) -> bool:
    """Returns whether the blocks of a run's network pass forward twice: where its batch cannot be cut and would keep too much.

    Args:
        spec: of the run.
        device_kind: "cpu" or "cuda".
    """
    if len(exact_sizes(spec)) > 1:
        return False
    size = model_size(spec)
    kept = 0.0 if size is None or not size.recomputed else 4.0 * spec.batches.largest * size.activations / MIB
    return kept >= KINDS[device_kind].recomputed_from_mib


# Compiling takes seconds to minutes, and pays for jobs that train long enough.

FLOPS_A_LAYER = 5e11
"""Floating point operations of a job on a CPU that are worth compiling a layer: about ten seconds of a core, and so ten times what
compiling takes. What that gains goes from nothing (C1) over an eighth (F1) to a third (ResNet-44)."""


def worth_compiling(spec: RunSpec, *, replicas: int, device_kind: str) -> bool:
    """Returns whether to compile the network of a job.

    Args:
        spec: of one of its runs.
        replicas: runs that train as one stack.
        device_kind: "cpu" or "cuda".
    """
    if spec.adaptive_batch is not None:
        return False  # batches have as many sizes as decisions are made, and each would be compiled anew
    if recomputes(spec, device_kind):
        return False
    if device_kind != "cpu":
        return spec.updates >= GPU_COMPILED_FROM
    size = model_size(spec)
    return size is not None and replicas * size.training_flops(spec.examples) >= FLOPS_A_LAYER * compiled_layers(spec)


def compiled_layers(spec: RunSpec) -> int:
    """Returns how many layers a run's compiler sees: all of the model, once for each size of its batches. The size must be known."""
    size = model_size(spec)
    assert size is not None
    return size.layers * len({stretch.size for stretch in spec.batches.stretches})


# Stacks: runs that share a program may train as one, where that pays.


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
    size = model_size(spec)
    return size is not None and size.training_flops(spec.examples / spec.updates) < KINDS[device_kind].stack_below_flops


def _without_momentum(optimizer: Component) -> dict[str, Any]:
    options = {name: value for name, value in optimizer.options.items() if name != "momentum"}
    return {"name": optimizer.name, "version": optimizer.version, "options": options}


# Where the examples lie: on the device, or on the disk, to be fetched in time. Both give the same batches, bit by bit.

RESIDENT_SHARE = 0.5
"""Of the memory that is free when training begins. A pool that takes more stays on the disk: the rest is for weights and activations."""
BLOCK_EXAMPLES = 2048
"""Examples of one replica that a feed fetches: several updates at once where batches are small, to save calls."""
BLOCK_BYTES = 1 << 28
"""Of the inputs of such a block, as floats: several updates at once only where images are small."""


def block_size(piece: int, example_numbers: int) -> int:
    """Returns how many examples of one replica a feed fetches at once: a multiple of `piece`, and at least that.

    Args:
        piece: examples that are computed at once.
        example_numbers: numbers of one input.
    """
    most = min(BLOCK_EXAMPLES, BLOCK_BYTES // (4 * max(1, example_numbers)))
    return max(1, most // piece) * piece
