"""The price of a suite: its jobs played through over the slots, at the seconds predicted; and these seconds as weights of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gapbench import cost
from gapbench.cost.calibration import Start, program_of
from gapbench.execution.jobs import Job, Pending, Predictions, Slot, in_order, place_of
from gapbench.execution.notices import ExpectedJob
from gapbench.execution.rules import simulate
from gapbench.sizing import program_key


@dataclass(frozen=True)
class PricedJob:
    """A job in its slot."""

    pending: Pending
    slot: int
    begins: float
    """Seconds after the start."""
    ends: float
    seconds: float | None
    """That results will record for what is left of it, in all buckets, of all replicas; None: not known, then it takes no time here."""
    basis: cost.Basis


@dataclass(frozen=True)
class Price:
    """What training will take."""

    jobs: tuple[PricedJob, ...]
    """In the order in which they begin."""

    @property
    def wall_seconds(self) -> float:
        """By the clock, from the start of the first worker to the end of the last job."""
        return max((job.ends for job in self.jobs), default=0.0)

    @property
    def device_seconds(self) -> float:
        """Of all jobs together, as results will record them."""
        return math.fsum(job.seconds for job in self.jobs if job.seconds is not None)

    @property
    def unknown(self) -> int:
        """Jobs whose time cannot be predicted."""
        return sum(job.seconds is None for job in self.jobs)

    def of_runs(self) -> Mapping[str, tuple[float, cost.Basis]]:
        """Returns, by run, its share of its job's seconds and what they rest on, where they are known."""
        return {
            run_id: (job.seconds / job.pending.job.replicas, job.basis)
            for job in self.jobs
            if job.seconds is not None
            for run_id in job.pending.job.run_ids
        }


def price(pending: Sequence[Pending], slots: Sequence[Slot], predictions: Predictions | None = None) -> Price:
    """Returns what is left to train, played through.

    A slot's first job waits for its worker to start; a worker's first job of a program takes longer than the next ones.

    Args:
        pending: what is left to train.
        slots: where.
        predictions: of jobs in these slots, as far as they are known already.
    """
    predictions = predictions or Predictions(place_of(slots))
    seen: dict[int, set[object]] = {}
    recorded: dict[tuple[str, ...], float | None] = {}

    def seconds(item: Pending, slot: Slot) -> float:
        estimate = predictions.of(item.job)
        start = Start(outside_seconds=0.0) if slot.number in seen else predictions.start
        found = _recorded(item, estimate, start, seen.setdefault(slot.number, set()))
        recorded[item.job.run_ids] = found
        return start.outside_seconds + estimate.outside_seconds + (found or 0.0)

    waiting = ((item, predictions.demand(item.job)) for item in in_order(pending, predictions))
    return Price(
        tuple(
            PricedJob(one.item, one.slot.number, one.begins, one.ends, recorded[one.item.job.run_ids], predictions.of(one.item.job).basis)
            for one in simulate(waiting, slots, seconds)
        )
    )


def _recorded(item: Pending, estimate: cost.Estimate, start: Start, seen: set[object]) -> float | None:
    """Returns the seconds that results will record of a job; `seen`: programs that its worker has trained, and now this one."""
    if estimate.buckets is None:
        return None
    program = (program_of(item.job.specs[0]), item.job.replicas)
    once = estimate.buckets.other + start.inside_seconds + (0.0 if program in seen else estimate.program_seconds)
    seen.add(program)
    return item.share_left * (estimate.buckets.train + estimate.buckets.evaluation) + once


def expected_jobs(
    pending: Sequence[Pending], predictions: Predictions, done: Iterable[Job] = ()
) -> tuple[tuple[ExpectedJob, ...], float, Literal["measured", "rough", "unknown"]]:
    """Returns the expectation of every pending job, the seconds predicted for the jobs that are done, and what all of it rests on.

    A job whose time cannot be predicted, such as one of a plugin's model, is weighed by its examples: by the predicted time per
    example of the others, or, where there are none, by one second a million, which is a weight and no prediction.
    """
    estimates = [predictions.of(item.job) for item in pending]
    known = [(estimate.seconds, _examples(item.job)) for estimate, item in zip(estimates, pending, strict=True) if estimate.seconds]
    per_example = sum(seconds for seconds, _ in known) / sum(examples for _, examples in known) if known else 1e-6
    programs: dict[object, int] = {}
    jobs = []
    for estimate, item in zip(estimates, pending, strict=True):
        key = (program_key(item.job.specs[0]), item.job.replicas)
        seconds = estimate.seconds or per_example * _examples(item.job)
        program = programs.setdefault(key, len(programs))
        jobs.append(ExpectedJob(item.job.run_ids, seconds, item.share_left, program, predictions.demand(item.job)))
    bases = {estimate.basis if estimate.seconds else "unknown" for estimate in estimates}
    basis: Literal["measured", "rough", "unknown"] = "rough"
    if not known:
        basis = "unknown"
    elif bases <= {"measured", "calibrated"}:
        basis = "measured"
    before = sum(predictions.of(job).seconds or per_example * _examples(job) for job in done)
    return tuple(jobs), before, basis


def _examples(job: Job) -> float:
    return float(sum(spec.examples for spec in job.specs))
