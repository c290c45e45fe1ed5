"""Jobs: what a worker trains in one go, a run or a stack of runs; and slots: how many train at a time, with how many threads.

Both follow from the whole plan and the machine alone, never from what happens to remain: a suite that was killed goes on with the
same stacks and the same threads, and so with the same numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gapbench import cost, sizing
from gapbench.core.machine import usable_cores
from gapbench.execution.devices import Device
from gapbench.execution.packing import HOST_MEMORY_SHARE, slots_a_gpu
from gapbench.suite.runspec import RunSpec
from gapbench.suite.schema import SEEDS

MAXIMUM_REPLICAS = {"cpu": 16, "cuda": 64}
"""By device kind: larger stacks gain nothing more (on a CPU they leave its caches)."""

MAXIMUM_GPU_THREADS = 8
"""A GPU's worker only prepares data and launches kernels."""


@dataclass(frozen=True)
class Job:
    """Runs that train together."""

    run_ids: tuple[str, ...]
    specs: tuple[RunSpec, ...]

    @property
    def replicas(self) -> int:
        """Number of runs."""
        return len(self.run_ids)

    def part(self, keep: Callable[[str], bool]) -> Job | None:
        """Returns the job with only those runs that `keep` wants, or None where that is none."""
        kept = [(run_id, spec) for run_id, spec in zip(self.run_ids, self.specs, strict=True) if keep(run_id)]
        return Job(tuple(run_id for run_id, _ in kept), tuple(spec for _, spec in kept)) if kept else None

    def singles(self) -> list[Job]:
        """Returns one job for each run."""
        return [Job((run_id,), (spec,)) for run_id, spec in zip(self.run_ids, self.specs, strict=True)]


@dataclass(frozen=True)
class Slot:
    """A place where one job trains at a time."""

    number: int
    device: Device
    threads: int
    asked: bool = False
    """Whether the user asked for so many slots: then jobs share a GPU however much work they have."""


def plan_jobs(runs: Mapping[str, RunSpec], places: int, device_kind: str) -> tuple[Job, ...]:
    """Groups runs into jobs: stacks where they pay, split so far that every one of `places` slots has its share of the work.

    Args:
        runs: every planned run by id, also those that are done.
        places: how many slots there could be.
        device_kind: "cpu" or "cuda".
    """
    sizing.count_models(runs.values())
    groups: dict[object, list[str]] = {}
    for run_id, spec in runs.items():
        stacks = sizing.stack_pays(spec, device_kind)
        groups.setdefault(sizing.program_key(spec) if stacks else ("alone", run_id), []).append(run_id)
    largest = MAXIMUM_REPLICAS.get(device_kind, 1)
    stacks_of_ids = [part for group in groups.values() for part in _even_parts(group, -(-len(group) // largest))]
    work = {run_id: _work(spec) for run_id, spec in runs.items()}
    fair_share = 1.01 * sum(work.values()) / places  # a stack that is just one slot's share stays whole
    while True:
        heavy = [ids for ids in stacks_of_ids if len(ids) > 1 and sum(work[run_id] for run_id in ids) > fair_share]
        if not heavy:
            break
        heaviest = max(heavy, key=lambda ids: sum(work[run_id] for run_id in ids))
        position = stacks_of_ids.index(heaviest)
        stacks_of_ids[position : position + 1] = _even_parts(heaviest, 2)
    return tuple(Job(tuple(ids), tuple(runs[run_id] for run_id in ids)) for ids in stacks_of_ids)


def plan_slots(
    jobs: Sequence[Job], devices: Sequence[Device], *, cores: int, memory_mib: float, slots: int | None = None
) -> tuple[Slot, ...]:
    """Returns the slots: on a CPU one a core, with one thread; one a GPU, or several where its jobs leave it idle while they launch.

    On a CPU there are fewer, with more threads, where there are fewer jobs than cores or the memory of the largest jobs asks for it.
    How many share a GPU is said in `packing.py`.

    Args:
        jobs: of the whole plan.
        devices: to train on.
        cores: that this process may use.
        memory_mib: of the machine.
        slots: the user's own choice.
    """
    if devices[0].kind == "cuda":
        chosen = min(slots_a_gpu(jobs, devices, cores=cores, memory_mib=memory_mib) * len(devices), max(1, len(jobs)))
        count = slots or chosen
        threads = max(1, min(MAXIMUM_GPU_THREADS, cores // count))
        return tuple(Slot(number, devices[number % len(devices)], threads, asked=slots is not None) for number in range(count))
    count = slots if slots else _fitting(jobs, cores, memory_mib)
    return tuple(Slot(number, devices[0], max(1, cores // count)) for number in range(count))


def predicted_memory_mib(job: Job, device_kind: str) -> float | None:
    """Returns the memory that a job is predicted to need, or None where nothing is known."""
    return cost.memory_mib(job.specs[0], replicas=job.replicas, device_kind=device_kind)


def place_of(slots: Sequence[Slot]) -> cost.Place:
    """Returns the place that these slots are: what is timed in them holds for the same machine shared out in the same way."""
    first = slots[0]
    devices = len({slot.device.name for slot in slots})
    return cost.Place(first.device.kind, first.device.label, usable_cores(), first.threads, len(slots), devices)


def predict(job: Job, place: cost.Place) -> cost.Estimate:
    """Returns what a job will take, from its beginning on."""
    return cost.estimate(job.specs[0], replicas=job.replicas, place=place)


class Predictions:
    """What jobs will take in one place, predicted once for all that differ in their seeds alone."""

    def __init__(self, place: cost.Place) -> None:
        self.place = place
        self._known: dict[tuple[str, int], cost.Estimate] = {}

    def of(self, job: Job) -> cost.Estimate:
        """Returns what a job will take, from its beginning on."""
        key = (job.specs[0].model_dump_json(exclude=set(SEEDS)), job.replicas)
        if key not in self._known:
            self._known[key] = predict(job, self.place)
        return self._known[key]


def predicted_seconds(job: Job, place: cost.Place) -> float | None:
    """Returns the time that a job is predicted to take, or None where nothing is known."""
    return predict(job, place).seconds


def _fitting(jobs: Sequence[Job], cores: int, memory_mib: float) -> int:
    needs = sorted((predicted_memory_mib(job, "cpu") or 0.0 for job in jobs), reverse=True)
    count = max(1, min(cores, len(jobs)))
    while count > 1 and sum(needs[:count]) > HOST_MEMORY_SHARE * memory_mib:
        count -= 1
    return count


def _even_parts(ids: list[str], parts: int) -> list[list[str]]:
    bounds = [len(ids) * part // parts for part in range(parts + 1)]
    return [ids[low:high] for low, high in itertools.pairwise(bounds) if high > low]


def _work(spec: RunSpec) -> float:
    """Returns a run's work in any unit. Counted, not measured: measured times would change how a killed suite goes on."""
    flops = cost.training_flops_per_update(spec)
    return float(spec.examples) if flops is None else flops * spec.updates
