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
from gapbench.execution.packing import Packing
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

    A slot's first job waits for its worker to start; a worker's first job of a program takes longer than the next ones. Where the
    longest waiting job may not begin, for lack of memory or beside what trains on the same GPU, a slot takes the next one that may, as
    the scheduler does.

    Args:
        pending: what is left to train.
        slots: where.
        free_mib: memory that is free before the first worker starts; default: there is always enough. Of a GPU the whole of it counts.
        predictions: of jobs in these slots, as far as they are known already.
    """
    place = place_of(slots)
    predictions = predictions or Predictions(place)
    start = start_of_worker(place)
    queue = _Queue(in_order(pending, predictions), slots, free_mib)
    seen: dict[int, set[object]] = {slot.number: set() for slot in slots}
    started: set[int] = set()
    found: list[ForeseenJob] = []
    # Of jobs that end at the same time, the one that began first ends first, as its worker's message comes first.
    ends: list[tuple[float, int, Slot]] = []
    begun = itertools.count()
    now = 0.0
    while queue.waiting or ends:
        for slot in slots:
            item = None if slot.number in queue.running else queue.take(slot)
            found += [ForeseenJob(lost, slot.number, now, now, None, "unknown") for lost in queue.lost()]
            if item is None:
                continue
            first = None if slot.number in started else start
            job = _played(item, predictions.of(item.job), slot.number, now, first, seen[slot.number])
            started.add(slot.number)
            found.append(job)
            heapq.heappush(ends, (job.ends, next(begun), slot))
        if ends:
            now, _, slot = heapq.heappop(ends)
            del queue.running[slot.number]
    return Foreseen(tuple(found))


class _Queue:
    """What waits, what runs, and what may begin: the scheduler's rules, on predictions in the place of processes."""

    def __init__(self, waiting: Sequence[Pending], slots: Sequence[Slot], free_mib: float) -> None:
        self.waiting = list(waiting)
        self.running: dict[int, Pending] = {}
        """By number of the slot."""
        self._slots = {slot.number: slot for slot in slots}
        self._packing = Packing(slots)
        self._room = free_mib - MEMORY_HEADROOM_MIB
        self._needs: dict[tuple[str, ...], float | None] = {}
        self._lost: list[Pending] = []

    def take(self, slot: Slot) -> Pending | None:
        """Takes the longest waiting job that may begin in a free slot, and puts it there."""
        item = self._fitting() if slot.device.kind == "cpu" else self._admitted(slot)
        if item is not None:
            self.waiting.remove(item)
            self.running[slot.number] = item
        return item

    def lost(self) -> list[Pending]:
        """Returns, once, the jobs that were found to fit nowhere: outcomes that take no time."""
        found, self._lost = self._lost, []
        return found

    def _admitted(self, slot: Slot) -> Pending | None:
        beside = [item.job for number, item in self.running.items() if self._slots[number].device == slot.device]
        return next((item for item in self.waiting if self._packing.admits(item.job, slot, beside)), None)

    def _fitting(self) -> Pending | None:
        room = self._room - sum(self._need(item) or 0.0 for item in self.running.values())
        for item in list(self.waiting):
            need = self._need(item)
            if need is None or need <= room:
                return item
            if not self.running:
                self.waiting.remove(item)
                if item.job.replicas > 1:
                    self.waiting.extend(item.singles())
                else:
                    self._lost.append(item)
        return None

    def _need(self, item: Pending) -> float | None:
        if item.job.run_ids not in self._needs:
            self._needs[item.job.run_ids] = predicted_memory_mib(item.job, "cpu")
        return self._needs[item.job.run_ids]


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
