"""What a job will take: counted where it can be counted, corrected by what jobs took on this machine, else a rough guess."""

from __future__ import annotations

from dataclasses import dataclass

from gapbench.cost.calibration import Basis, Buckets, Place, learned
from gapbench.cost.guess import checkpoint_seconds, guess, work_of
from gapbench.cost.memory import memory_mib
from gapbench.sizing.sizes import model_size
from gapbench.suite.runspec import RunSpec


@dataclass(frozen=True)
class Estimate:
    """What a job of one run, or of a stack of replicas of one program, will take."""

    parameters: int | None
    """Of one replica; None: unknown."""
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
    size, work = model_size(spec), work_of(spec, replicas=replicas)
    scales, basis = learned(spec, place, replicas=replicas, device_kind=kind)
    guessed = guess(spec, replicas=replicas, device_kind=kind)
    train, evaluation = scales.train * guessed.train(work), scales.evaluation * guessed.evaluation(work)
    other = scales.setup_seconds + checkpoint_seconds(spec, replicas, train + evaluation)
    return Estimate(
        parameters=size.parameters if size else None,
        memory_mib=memory_mib(spec, replicas=replicas, device_kind=kind, place=place),
        buckets=None if basis == "unknown" else Buckets(train, evaluation, other),
        outside_seconds=scales.outside_seconds,
        program_seconds=scales.program_seconds,
        basis=basis,
    )


def training_flops_per_update(spec: RunSpec) -> float | None:
    """Returns the floating point operations of one update of one replica, their mean, or None where the model is unknown."""
    size = model_size(spec)
    return None if size is None else size.training_flops(spec.examples / spec.updates * spec.gradients_per_update)
