"""The scheduling rule: which waiting job starts in which slot now. Pure: it knows neither processes nor clocks, nor what was timed.

The scheduler starts jobs by it, a calibration places its measurements by it, and `simulate` plays a whole suite through by it: for its
price and for the time that is left.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gapbench import cost
from gapbench.execution.jobs import GPU_MEMORY_SHARE, Demand, Slot

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
    free = [slot for slot in room.slots if slot.number not in running and slot.number not in room.closed]
    gaps = [gap for slot in free if (gap := _gap(slot, running, room)) is not None]
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
    left = deque(waiting)
    busy = {number: demand for number, (demand, _) in (running or {}).items()}
    # Of jobs that end at the same time, the one that began first ends first, as its worker's message comes first.
    begun = itertools.count()
    ends = [(until, next(begun), number) for number, (_, until) in (running or {}).items()]
    heapq.heapify(ends)
    room, now = Room(slots), 0.0
    while left:
        while (found := next_job((demand for _, demand in left), busy, room)) is not None:
            item, demand = left[found.position]
            del left[found.position]
            number, end = found.slot.number, now + seconds(item, found.slot)
            busy[number] = demand
            heapq.heappush(ends, (end, next(begun), number))
            yield Simulated(item, found.slot, now, end)
        if not left:
            return
        now, _, number = heapq.heappop(ends)
        del busy[number]


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
