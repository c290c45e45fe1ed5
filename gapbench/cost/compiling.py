"""Where compiling a job's network pays: decided by the spec alone, so that a run goes on with the program that it began with."""

from __future__ import annotations

from gapbench.cost.sizes import layers_of, model_size
from gapbench.suite.runspec import RunSpec

COMPILED_FROM = 2000
"""Updates of a job on a GPU that are worth compiling its network, which takes up to some minutes. A guess that is to be measured on one."""
COMPILE_SECONDS = 1.0
"""Of a layer, for the first time on a machine (the compiler keeps what it made). On one of two CPU cores that trained besides, ResNet-44
took 1.3 and F1 3."""
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
    if device_kind != "cpu":
        return spec.updates >= COMPILED_FROM
    size = model_size(spec)
    return size is not None and 6.0 * replicas * size.multiplications * spec.examples >= FLOPS_A_LAYER * _compiled_layers(spec)


def guessed_compile_seconds(spec: RunSpec) -> float:
    """Returns a rough guess at what compiling a job's network takes."""
    return COMPILE_SECONDS * _compiled_layers(spec)


def _compiled_layers(spec: RunSpec) -> int:
    return layers_of(spec) * len({stretch.size for stretch in spec.batches.stretches})
