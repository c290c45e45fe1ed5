"""Which jobs train beside one another on a GPU: no more than their launches leave room for, and no more than its memory holds.

The planner counts slots by it (`jobs.py`), the scheduler admits by it, the foresight plays it through and calibration measures by it, so
that all four mean the same. Every number in it is counted from the plan or a property of the machine: none is measured while it trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench import cost
from gapbench.execution.devices import Device

if TYPE_CHECKING:
    from gapbench.execution.jobs import Job, Slot

GPU_MEMORY_SHARE = 0.9
"""Share of a GPU's memory that jobs beside one another are planned to fill; the rest is for what no prediction knows."""

HOST_MEMORY_SHARE = 0.8
"""Share of the machine's memory that slots are planned to fill."""


def slots_a_gpu(jobs: Sequence[Job], devices: Sequence[Device], *, cores: int, memory_mib: float) -> int:
    """Returns how many slots each GPU gets: so many that jobs of the plan fill them all at a time, within memory and cores.

    Args:
        jobs: of the whole plan.
        devices: the GPUs; where the memory of one is unknown (a part of a GPU), each gets one slot.
        cores: that this process may use: every worker keeps one busy with launching.
        memory_mib: of the machine.
    """
    levels = [(_at_a_time(job), job) for job in jobs]
    for count in range(min(cost.MOST_AT_A_TIME, cores // len(devices)), 1, -1):
        beside = [job for level, job in levels if level >= count]
        # Of the next lower count every GPU could have as many.
        if len(beside) > (count - 1) * len(devices) and _fit(beside, count, devices, memory_mib):
            return count
    return 1


class Packing:
    """Says which job may begin in which slot beside those that are training.

    Args:
        slots: of the layout.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = tuple(slots)
        self._of_device = Counter(slot.device.name for slot in slots)
        self._known: dict[tuple[str, ...], tuple[int, float]] = {}

    def admits(self, job: Job, slot: Slot, beside: Sequence[Job]) -> bool:
        """Returns whether a job may begin in a slot of a GPU.

        Args:
            job: that waits.
            slot: that is free.
            beside: what trains on the same GPU now. An empty one takes any job: it says itself when its memory does not suffice.
        """
        if not beside:
            return True
        together = (job, *beside)
        if not slot.asked and any(self._facts(one)[0] < len(together) for one in together):
            return False
        if slot.device.memory_mib is None:
            return True
        idle = self._of_device[slot.device.name] - len(together)
        needed = sum(self._facts(one)[1] for one in together) + max(0, idle) * cost.idle_mib("cuda")
        return needed <= GPU_MEMORY_SHARE * slot.device.memory_mib

    def most(self, job: Job, slot: Slot) -> int:
        """Returns how many jobs may train at a time on a slot's device while this one does, itself included."""
        slots = self._of_device[slot.device.name]
        return slots if slot.device.kind == "cpu" or slot.asked else min(slots, self._facts(job)[0])

    def width(self, job: Job) -> int:
        """Returns how many slots of a device a job takes: its own, and its part of those that stay empty meanwhile."""
        return max(self._of_device[slot.device.name] // self.most(job, slot) for slot in self._slots)

    def places(self, job: Job) -> tuple[int, ...]:
        """Returns the numbers of all slots in which jobs like this one train at a time."""
        taken: Counter[str] = Counter()
        numbers = []
        for slot in self._slots:
            name = slot.device.name
            if slot.device.kind == "cpu" or self.admits(job, slot, [job] * taken[name]):
                taken[name] += 1
                numbers.append(slot.number)
        return tuple(numbers)

    def _facts(self, job: Job) -> tuple[int, float]:
        """Returns how many at a time a GPU trains of a job's kind, and the memory of the GPU that one needs."""
        if job.run_ids not in self._known:
            self._known[job.run_ids] = (_at_a_time(job), _gpu_mib(job))
        return self._known[job.run_ids]


def _at_a_time(job: Job) -> int:
    return cost.jobs_at_a_time(job.specs[0], replicas=job.replicas, device_kind="cuda")


def _gpu_mib(job: Job) -> float:
    return cost.memory_mib(job.specs[0], replicas=job.replicas, device_kind="cuda") or 0.0


def _fit(jobs: Sequence[Job], count: int, devices: Sequence[Device], memory_mib: float) -> bool:
    """Returns whether the largest of the jobs fit, `count` on every GPU, into its memory and into that of the machine."""
    if any(device.memory_mib is None for device in devices):
        return False
    on_gpu = sorted((_gpu_mib(job) for job in jobs), reverse=True)
    on_host = sorted((cost.host_mib(job.specs[0], replicas=job.replicas) or 0.0 for job in jobs), reverse=True)
    return (
        sum(on_gpu[:count]) <= GPU_MEMORY_SHARE * min(device.memory_mib or 0.0 for device in devices)
        and sum(on_host[: count * len(devices)]) <= HOST_MEMORY_SHARE * memory_mib
    )
