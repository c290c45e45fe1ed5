"""The future of a suite: its jobs played through over the slots, as the scheduler would hand them out, at the seconds predicted."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gapbench import cost
from gapbench.cost.calibration import start_of_worker
from gapbench.execution.jobs import Predictions, Slot, place_of, predicted_memory_mib
from gapbench.execution.resume import Pending, in_order
from gapbench.execution.scheduler import MEMORY_HEADROOM_MIB


@dataclass(frozen=True)
class ForeseenJob:
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
class Foreseen:
    """What will happen."""

    jobs: tuple[ForeseenJob, ...]
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


def foresee(
    pending: Sequence[Pending], slots: Sequence[Slot], *, free_mib: float = math.inf, predictions: Predictions | None = None
) -> Foreseen:
    """Plays jobs through.

    A slot's first job waits for its worker to start; a worker's first job of a program takes longer than the next ones. Where memory
    does not suffice for the longest waiting job, a slot takes the next one that fits, as the scheduler does.

    Args:
        pending: what is left to train.
        slots: where.
        free_mib: memory that is free before the first worker starts; default: there is always enough.
        predictions: of jobs in these slots, as far as they are known already.
    """
    place = place_of(slots)
    predictions = predictions or Predictions(place)
    start = start_of_worker(place)
    waiting = in_order(pending, predictions)
    needs = {item.job.run_ids: predicted_memory_mib(item.job, place.device_kind) or 0.0 for item in waiting}
    bounded = place.device_kind == "cpu"
    seen: dict[int, set[object]] = {slot.number: set() for slot in slots}
    started: set[int] = set()
    # Of slots that become free at the same time, the one whose job began first comes first, as its worker's message does.
    begun = itertools.count()
    free = [(0.0, next(begun), position) for position in range(len(slots))]
    running: list[tuple[float, float]] = []
    """End and memory of every job in a slot."""
    found: list[ForeseenJob] = []
    while waiting:
        now, _, position = heapq.heappop(free)
        running = [(ends, need) for ends, need in running if ends > now]
        room = free_mib - MEMORY_HEADROOM_MIB - sum(need for _, need in running) if bounded else math.inf
        item = next((item for item in waiting if needs[item.job.run_ids] <= room), None)
        if item is None:
            if running:  # waits for memory
                heapq.heappush(free, (min(ends for ends, _ in running), next(begun), position))
                continue
            item = waiting[0]  # fits nowhere: an outcome that takes no time
            waiting.remove(item)
            found.append(ForeseenJob(item, slots[position].number, now, now, None, "unknown"))
            heapq.heappush(free, (now, next(begun), position))
            continue
        waiting.remove(item)
        number = slots[position].number
        job = _played(item, predictions.of(item.job), number, now, None if number in started else start, seen[number])
        started.add(number)
        found.append(job)
        running.append((job.ends, needs[item.job.run_ids]))
        heapq.heappush(free, (job.ends, next(begun), position))
    return Foreseen(tuple(found))


def _played(
    item: Pending, estimate: cost.Estimate, slot: int, now: float, start: cost.calibration.Start | None, seen: set[object]
) -> ForeseenJob:
    outside = estimate.outside_seconds + (start.outside_seconds if start else 0.0)
    if estimate.buckets is None:
        return ForeseenJob(item, slot, now, now + outside, None, estimate.basis)
    program = (cost.calibration.program_of(item.job.specs[0]), item.job.replicas)
    once = estimate.buckets.other + (start.inside_seconds if start else 0.0) + (0.0 if program in seen else estimate.program_seconds)
    seen.add(program)
    seconds = item.share_left * (estimate.buckets.train + estimate.buckets.evaluation) + once
    return ForeseenJob(item, slot, now, now + outside + seconds, seconds, estimate.basis)
