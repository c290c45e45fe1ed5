"""Which waiting job starts in which slot now, and what a whole suite takes when its jobs are played through by that rule.

The rule is pure: it knows neither processes nor clocks, nor what was timed. The scheduler starts jobs by it, a calibration places its
measurements by it, and `simulate` plays a suite through by it: for its price and for the time that is left.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from gapbench import cost
from gapbench.cost.calibration import Start, program_of
from gapbench.execution.jobs import GPU_MEMORY_SHARE, Demand, Job, Pending, Predictions, Slot, in_order, place_of
from gapbench.execution.notices import ExpectedJob
from gapbench.sizing import program_key

MEMORY_HEADROOM_MIB = 256.0
"""Of the machine's memory, left free for everything that the prediction does not know."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Room:
    """What there is to train on, whatever runs in it."""

    slots: Sequence[Slot]
    """All of the layout."""
    closed: Collection[int] = ()
    """Numbers of slots that take no job now."""
    free_mib: float = math.inf
    """Memory of the machine that is free now; it bounds what starts on a CPU."""
    held_mib: Mapping[int, float] = field(default_factory=dict)
    """Memory of the machine that the worker of a slot holds now, by number of the slot."""


@dataclass(frozen=True)
class Placement:
    """A job and the slot in which it starts."""

    position: int
    """Of the job among those that wait."""
    slot: Slot
    fits: bool = True
    """False: nothing else runs, and still the memory of the machine does not suffice for it."""


def next_job(waiting: Iterable[Demand], running: Mapping[int, Demand], room: Room) -> Placement | None:
    """Returns what starts next, or None where nothing may start now.

    The longest waiting job that fits takes the first slot that it fits in. On a CPU it must fit into the memory that is free, less
    what running jobs are yet to take. On a GPU, too, jobs beside one another must fit into its memory, and there may be no more of them
    than each of them allows (unless the user chose the number of slots); an empty one takes any job, which says itself when its
    memory does not suffice.

    Args:
        waiting: jobs in the order in which they are to start; read only as far as needed.
        running: jobs by number of their slot.
        room: where.
    """
    free: dict[object, Slot] = {}
    for slot in room.slots:
        if slot.number not in running and slot.number not in room.closed:
            # All free slots of a GPU have the same to give; on a CPU it matters what the idle worker of a slot holds.
            free.setdefault(slot.number if slot.device.kind == "cpu" else slot.device.name, slot)
    gaps = [gap for slot in free.values() if (gap := _gap(slot, running, room)) is not None]
    if not gaps:
        return None
    for position, demand in enumerate(waiting):
        for gap in gaps:
            if gap.admits(demand):
                return Placement(position, gap.slot)
        if not running:
            return Placement(position, gaps[0].slot, fits=False)
    return None


def at_a_time(demand: Demand, slot: Slot, slots: Sequence[Slot]) -> int:
    """Returns how many jobs may train at a time on a slot's device while one does, itself included."""
    count = sum(one.device.name == slot.device.name for one in slots)
    return count if slot.device.kind == "cpu" or slot.by_user else min(count, demand.at_a_time)


def slots_at_once(demand: Demand, slots: Sequence[Slot]) -> tuple[int, ...]:
    """Returns the numbers of all slots in which jobs like one train at a time."""
    running: dict[int, Demand] = {}
    while (found := next_job([demand], running, Room(slots))) is not None:
        running[found.slot.number] = demand
    return tuple(sorted(running))


@dataclass(frozen=True)
class Simulated(Generic[Item]):
    """A job that was played through."""

    item: Item
    slot: Slot
    begins: float
    """Seconds from now."""
    ends: float


def simulate(
    waiting: Iterable[tuple[Item, Demand]],
    slots: Sequence[Slot],
    seconds: Callable[[Item, Slot], float],
    running: Mapping[int, tuple[Demand, float]] | None = None,
) -> Iterator[Simulated[Item]]:
    """Plays jobs through as the scheduler would start them where the machine's memory suffices; yields each as it begins.

    Args:
        waiting: jobs in the order in which they are to start, with their demands.
        slots: where.
        seconds: tells how long a job keeps a slot busy; called once a job, as it begins.
        running: by number of the slot, what runs there and for how many seconds more.
    """
    # The rule looks at a job's demand alone: of jobs with equal demands only the first can be next.
    queues: dict[Demand, deque[tuple[int, Item]]] = defaultdict(deque)
    for position, (item, demand) in enumerate(waiting):
        queues[demand].append((position, item))
    left = sorted(queues.items(), key=_position)
    busy = {number: demand for number, (demand, _) in (running or {}).items()}
    # Of jobs that end at the same time, the one that began first ends first, as its worker's message comes first.
    begun = itertools.count()
    ends = [(until, next(begun), number) for number, (_, until) in (running or {}).items()]
    heapq.heapify(ends)
    room, now = Room(slots), 0.0
    while left:
        found = next_job((demand for demand, _ in left), busy, room) if len(busy) < len(slots) else None
        if found is None:
            now, _, number = heapq.heappop(ends)
            del busy[number]
            continue
        demand, queue = left[found.position]
        _, item = queue.popleft()
        end = now + seconds(item, found.slot)
        busy[found.slot.number] = demand
        heapq.heappush(ends, (end, next(begun), found.slot.number))
        yield Simulated(item, found.slot, now, end)
        left = sorted((kind for kind in left if kind[1]), key=_position)


def _position(kind: tuple[Demand, deque[tuple[int, Item]]]) -> int:
    """Returns the position of the first job of a kind."""
    return kind[1][0][0]


@dataclass(frozen=True)
class _Gap:
    """A free slot."""

    slot: Slot
    together: int
    """Jobs on its GPU, with one more, where their number counts."""
    left_mib: float

    def admits(self, demand: Demand) -> bool:
        return demand.at_a_time >= self.together and (not demand.memory_mib or demand.memory_mib <= self.left_mib)


def _gap(slot: Slot, running: Mapping[int, Demand], room: Room) -> _Gap | None:
    """Returns what a free slot has to give; None where those that run leave no place for one more."""
    if slot.device.kind == "cpu":
        if math.isinf(room.free_mib):
            return _Gap(slot, 1, math.inf)
        promised = sum(max(0.0, demand.memory_mib - room.held_mib.get(number, 0.0)) for number, demand in running.items())
        own = room.held_mib.get(slot.number, 0.0)  # of the idle worker that would get the job
        return _Gap(slot, 1, room.free_mib - MEMORY_HEADROOM_MIB + own - promised)
    of_device = [one.number for one in room.slots if one.device.name == slot.device.name]
    beside = [running[number] for number in of_device if number in running]
    if not beside:
        return _Gap(slot, 1, math.inf)
    together = len(beside) + 1
    if slot.by_user:
        together = 1
    elif any(demand.at_a_time < together for demand in beside):
        return None
    if slot.device.memory_mib is None:
        return _Gap(slot, together, math.inf)
    idle = len(of_device) - len(beside) - 1
    taken = sum(demand.memory_mib for demand in beside) + idle * cost.idle_mib("cuda")
    return _Gap(slot, together, GPU_MEMORY_SHARE * slot.device.memory_mib - taken)


# The price of a suite, and its predicted seconds as weights of progress.


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
