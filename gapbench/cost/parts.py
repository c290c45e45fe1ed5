"""The time of a job as a sum of parts, in the three buckets that results record, and a rough guess at each part."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from gapbench.cost.compiling import guessed_compile_seconds, worth_compiling
from gapbench.cost.sizes import layers_of, model_size
from gapbench.cost.work import Work
from gapbench.suite.runspec import Frozen, RunSpec

CHECKPOINT_SECONDS = 60.0
"""Between checkpoints."""
CHECKPOINT_BYTES = 16
"""Of a checkpoint, a parameter: weights, momentum, initial weights, and what else an optimizer keeps."""
CHECKPOINT_BYTES_PER_SECOND = 1e8
"""At which checkpoints are written; F1 on MNIST (23 MB) took 0.17 to 0.3 s each."""

FLOPS_PER_SECOND = {"cpu": 5e10, "cuda": 3e13}
"""Rough guess at what an update reaches, of one core or of one GPU. What stands here for GPUs, and in the two below, no GPU has shown
yet: it is to be measured on one."""
LAYER_SECONDS = {"cpu": 2e-4, "cuda": 1e-4}
"""Rough guess at the fixed cost of a layer's kernels in one update: on a GPU the time to launch them. To be measured there."""
PARAMETER_SECONDS = {"cpu": 5e-9, "cuda": 2e-11}
"""Rough guess at what moving one weight costs in one update: gradient, norm and optimizer pass over all of them. On a GPU to be
measured."""
CHUNK_EXAMPLES = 1024
"""Examples that an evaluation computes at once."""


class Parts(Frozen):
    """What a job is made of, in seconds of all its replicas together."""

    begin_seconds: float = Field(ge=0.0)
    """Once a job: what its first update takes more, such as drawing the order of the examples. In the bucket of training."""
    update_seconds: float = Field(ge=0.0)
    """An update. In the bucket of training."""
    probe_seconds: float = Field(ge=0.0)
    """What an update takes more when probes look at it. In the bucket of training."""
    evaluation_seconds: float = Field(ge=0.0)
    """An evaluation, besides its examples. In the bucket of evaluation."""
    example_seconds: float = Field(ge=0.0)
    """An evaluated example of every replica. In the bucket of evaluation."""
    setup_seconds: float = Field(ge=0.0)
    """Once a job: network, feed, first tensors. In the bucket of everything else."""
    program_seconds: float = Field(ge=0.0)
    """What a worker's first job of a program takes more: compiling, kernels chosen, memory fetched. In the bucket of everything else."""
    outside_seconds: float = Field(ge=0.0)
    """Once a job, outside of the buckets: data read, folders made, outcomes written."""


@dataclass(frozen=True)
class Buckets:
    """Seconds as results record them."""

    train: float
    evaluation: float
    other: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.train + self.evaluation + self.other


NOTHING_KNOWN = Parts(
    begin_seconds=0.0,
    update_seconds=1.0,
    probe_seconds=0.0,
    evaluation_seconds=0.0,
    example_seconds=1.0,
    setup_seconds=0.0,
    program_seconds=0.0,
    outside_seconds=0.0,
)
"""The shape of a job whose model is unknown: training grows with updates, evaluation with examples. What was timed scales it."""


def buckets(parts: Parts, work: Work, *, checkpoint_seconds: float = 0.0, first: bool = False) -> Buckets:
    """Returns what a job takes.

    Args:
        parts: of its program.
        work: of one of its replicas.
        checkpoint_seconds: of one checkpoint.
        first: whether it is the first job of its program in a worker.
    """
    train = parts.begin_seconds + work.updates * parts.update_seconds + work.observed * parts.probe_seconds
    evaluation = work.evaluations * parts.evaluation_seconds + work.examples * parts.example_seconds
    checkpoints = (train + evaluation) // CHECKPOINT_SECONDS
    other = parts.setup_seconds + checkpoints * checkpoint_seconds + (parts.program_seconds if first else 0.0)
    return Buckets(train, evaluation, other)


def guessed_checkpoint_seconds(spec: RunSpec, replicas: int) -> float:
    """Returns a rough guess at the seconds of one checkpoint of all replicas."""
    size = model_size(spec)
    return 0.02 + (0.0 if size is None else replicas * size.parameters * CHECKPOINT_BYTES / CHECKPOINT_BYTES_PER_SECOND)


def guessed_parts(spec: RunSpec, *, replicas: int, device_kind: str) -> Parts | None:
    """Returns a rough guess, or None where the model is unknown."""
    size, work = model_size(spec), guessed_work_seconds(spec, replicas=replicas, device_kind=device_kind)
    if size is None or work is None:
        return None
    kind = _kind(device_kind)
    launch = guessed_launch_seconds(spec, kind)
    compiles = worth_compiling(spec, replicas=replicas, device_kind=kind)
    pass_over_weights = replicas * size.parameters * PARAMETER_SECONDS[kind]
    return Parts(
        begin_seconds=0.01,
        update_seconds=1e-4 + launch + work,
        probe_seconds=launch + pass_over_weights,
        evaluation_seconds=2e-3,
        example_seconds=replicas * (2.0 * size.multiplications / FLOPS_PER_SECOND[kind] + launch / 3.0 / CHUNK_EXAMPLES),
        setup_seconds=0.01 + 2.0 * pass_over_weights,
        program_seconds=0.05 + (guessed_compile_seconds(spec) if compiles else 0.0),
        outside_seconds=0.05,
    )


def guessed_launch_seconds(spec: RunSpec, device_kind: str) -> float:
    """Returns a rough guess at what the kernels of an update cost whatever they work on: a stack pays it once for all replicas."""
    return layers_of(spec) * LAYER_SECONDS[_kind(device_kind)]


def guessed_work_seconds(spec: RunSpec, *, replicas: int, device_kind: str) -> float | None:
    """Returns a rough guess at what an update costs beyond its kernels: arithmetic, weights moved. None where the model is unknown."""
    size = model_size(spec)
    if size is None:
        return None
    kind = _kind(device_kind)
    examples = spec.examples / spec.updates
    if spec.adaptive_batch is not None:  # a measured batch is computed once more
        examples *= 1.0 + 1.0 / spec.adaptive_batch.measure_every
    arithmetic = 6.0 * examples * size.multiplications / FLOPS_PER_SECOND[kind]
    return replicas * (size.parameters * PARAMETER_SECONDS[kind] + arithmetic)


def _kind(device_kind: str) -> str:
    return device_kind if device_kind in FLOPS_PER_SECOND else "cpu"
