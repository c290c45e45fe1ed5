"""Jobs: what a worker trains in one go, a run or a stack of runs; and slots: how many train at a time, with how many threads.

Both follow from the whole plan and the machine alone, never from what happens to remain: a suite that was killed goes on with the
same stacks and the same threads, and so with the same numbers.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gapbench import cost, sizing
from gapbench.core.machine import usable_cores
from gapbench.cost.calibration import Start, start_of_worker
from gapbench.execution.devices import Device
from gapbench.store import ResultsDirectory
from gapbench.suite.runspec import RunSpec
from gapbench.suite.schema import SEEDS

MAXIMUM_REPLICAS = {"cpu": 16, "cuda": 64}
"""By device kind: larger stacks gain nothing more (on a CPU they leave its caches)."""

MAXIMUM_GPU_THREADS = 8
"""A GPU's worker only prepares data and launches kernels."""

GPU_MEMORY_SHARE = 0.9
"""Share of a GPU's memory that jobs beside one another are planned to fill; the rest is for what no prediction knows."""

HOST_MEMORY_SHARE = 0.8
"""Share of the machine's memory that slots are planned to fill."""


@dataclass(frozen=True)
class Job:
    """Runs that train together."""

    run_ids: tuple[str, ...]
    specs: tuple[RunSpec, ...]

    @classmethod
    def of(cls, runs: Mapping[str, RunSpec]) -> Job:
        """Returns the job of runs by id."""
        return cls(tuple(runs), tuple(runs.values()))

    @property
    def runs(self) -> Mapping[str, RunSpec]:
        """The runs by id."""
        return dict(zip(self.run_ids, self.specs, strict=True))

    @property
    def replicas(self) -> int:
        """Number of runs."""
        return len(self.run_ids)

    def part(self, run_ids: Collection[str]) -> Job | None:
        """Returns the job with only those of its runs that are among `run_ids`, or None where that is none."""
        kept = {run_id: spec for run_id, spec in self.runs.items() if run_id in run_ids}
        return Job.of(kept) if kept else None


@dataclass(frozen=True)
class Slot:
    """A place where one job trains at a time."""

    number: int
    device: Device
    threads: int
    by_user: bool = False
    """Whether the user chose how many slots there are: then jobs share a GPU however much work they have."""


@dataclass(frozen=True)
class Demand:
    """What a job takes of the device that it trains on."""

    memory_mib: float = 0.0
    """Of the machine (cpu) or of the GPU (cuda); 0: not known, then the job is started and says itself when it does not suffice."""
    at_a_time: int = cost.MOST_AT_A_TIME
    """How many jobs of its kind a GPU trains at a time with gain, itself included."""


def demand_of(job: Job, device_kind: str) -> Demand:
    """Returns what a job takes of a device of this kind, counted from its runs and never from what was timed."""
    spec, replicas = job.specs[0], job.replicas
    return Demand(
        cost.memory_mib(spec, replicas=replicas, device_kind=device_kind) or 0.0,
        cost.MOST_AT_A_TIME if device_kind == "cpu" else cost.jobs_at_a_time(spec, replicas=replicas, device_kind=device_kind),
    )


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
    return tuple(Job.of({run_id: runs[run_id] for run_id in ids}) for stack in stacks_of_ids for ids in _halved(stack, work, fair_share))


def plan_slots(
    jobs: Sequence[Job], devices: Sequence[Device], *, cores: int, memory_mib: float, slots: int | None = None
) -> tuple[Slot, ...]:
    """Returns the slots: on a CPU one a core, with one thread; one a GPU, or several where its jobs leave it idle while they launch.

    On a CPU there are fewer, with more threads, where there are fewer jobs than cores or the memory of the largest jobs asks for it.

    Args:
        jobs: of the whole plan.
        devices: to train on.
        cores: that this process may use.
        memory_mib: of the machine.
        slots: the user's own choice.
    """
    if devices[0].kind == "cuda":
        chosen = min(_slots_a_gpu(jobs, devices, cores=cores, memory_mib=memory_mib) * len(devices), max(1, len(jobs)))
        count = slots or chosen
        threads = max(1, min(MAXIMUM_GPU_THREADS, cores // count))
        return tuple(Slot(number, devices[number % len(devices)], threads, by_user=slots is not None) for number in range(count))
    count = slots if slots else _slots_of_cpu(jobs, cores, memory_mib)
    return tuple(Slot(number, devices[0], max(1, cores // count)) for number in range(count))


def place_of(slots: Sequence[Slot]) -> cost.Place:
    """Returns the place that these slots are: what is timed in them holds for the same machine shared out in the same way."""
    first = slots[0]
    devices = len({slot.device.name for slot in slots})
    return cost.Place(first.device.kind, first.device.label, usable_cores(), first.threads, len(slots), devices)


@dataclass(frozen=True)
class Pending:
    """A job to train, and where it goes on from."""

    job: Job
    checkpoint: str | None = None
    """Id of the run whose folder holds the checkpoint with its slices."""
    update: int = 0
    """Done, according to that checkpoint."""
    compiles: bool | None = None
    """Whether it tries to compile its network; None: where that pays for its updates."""

    @property
    def share_left(self) -> float:
        """Fraction of its updates that is still to do."""
        return max(0.0, 1.0 - self.update / self.job.specs[0].updates)  # a batch that follows the noise scale may make more updates

    def singles(self) -> list[Pending]:
        """Returns its runs as jobs of their own; their slices stay where they are."""
        return [Pending(Job.of({run_id: spec}), self.checkpoint, self.update) for run_id, spec in self.job.runs.items()]


def find_pending(results: ResultsDirectory, jobs: Sequence[Job], selected: Collection[str]) -> list[Pending]:
    """Returns the jobs to train: planned jobs without those runs that have an outcome, and interrupted stacks just as they were.

    An interrupted stack goes on as it was, also where the plan has grown since; of a stack, all unfinished runs that are still
    planned go on together, also where only some of them are selected. Everything else trains in the jobs of the plan.

    Args:
        results: says which runs have an outcome or a checkpoint.
        jobs: of the whole plan.
        selected: ids of the runs to train.
    """
    wanted = frozenset(selected)
    left = {run_id: spec for job in jobs for run_id, spec in job.runs.items() if results.run(run_id).outcome() is None}
    found: list[Pending] = []
    resumed: set[str] = set()
    for run_id in left:
        header = results.run(run_id).checkpoint()
        if header is None:
            continue
        members = [member for member in header.stack if member in left and member not in resumed]
        if not wanted.isdisjoint(members):
            found.append(Pending(Job.of({member: left[member] for member in members}), run_id, header.update))
            resumed.update(members)
    fresh = (left.keys() & wanted) - resumed
    return [*found, *(Pending(part) for job in jobs if (part := job.part(fresh)))]


def in_order(pending: Sequence[Pending], predictions: Predictions) -> list[Pending]:
    """Returns jobs in the order in which slots take them: what has begun, then the longest first, so that no slot idles at the end.

    What has begun comes first so that repeated interruptions do not leave ever more runs half done.
    """
    return sorted(pending, key=lambda item: (item.update == 0, -(predictions.of(item.job).seconds or 0.0) * item.share_left))


class Predictions:
    """What jobs take in one place, worked out once for all that differ in their seeds alone."""

    def __init__(self, place: cost.Place) -> None:
        self.place = place
        self._keys: dict[tuple[str, ...], tuple[str, int]] = {}
        self._known: dict[tuple[str, int], tuple[cost.Estimate, Demand]] = {}

    def of(self, job: Job) -> cost.Estimate:
        """Returns what a job will take, from its beginning on."""
        return self._of(job)[0]

    def demand(self, job: Job) -> Demand:
        """Returns what a job takes of its device."""
        return self._of(job)[1]

    @functools.cached_property
    def start(self) -> Start:
        """What the start of a worker takes."""
        return start_of_worker(self.place)

    def _of(self, job: Job) -> tuple[cost.Estimate, Demand]:
        if job.run_ids not in self._keys:
            self._keys[job.run_ids] = (job.specs[0].model_dump_json(exclude=set(SEEDS)), job.replicas)
        key = self._keys[job.run_ids]
        if key not in self._known:
            estimate = cost.estimate(job.specs[0], replicas=job.replicas, place=self.place)
            self._known[key] = (estimate, demand_of(job, self.place.device_kind))
        return self._known[key]


def _slots_of_cpu(jobs: Sequence[Job], cores: int, memory_mib: float) -> int:
    needs = sorted((demand_of(job, "cpu").memory_mib for job in jobs), reverse=True)
    count = max(1, min(cores, len(jobs)))
    while count > 1 and sum(needs[:count]) > HOST_MEMORY_SHARE * memory_mib:
        count -= 1
    return count


def _slots_a_gpu(jobs: Sequence[Job], devices: Sequence[Device], *, cores: int, memory_mib: float) -> int:
    """Returns how many slots each GPU gets: so many that jobs of the plan fill them all at a time, within memory and cores.

    Every worker keeps one core busy with launching. Where the memory of a GPU is unknown (a part of one), each gets one slot.
    """
    demands = [(demand_of(job, "cuda"), job) for job in jobs]
    for count in range(min(cost.MOST_AT_A_TIME, cores // len(devices)), 1, -1):
        beside = [(demand, job) for demand, job in demands if demand.at_a_time >= count]
        # Of the next lower count every GPU could have as many.
        if len(beside) > (count - 1) * len(devices) and _fit(beside, count, devices, memory_mib):
            return count
    return 1


def _fit(jobs: Sequence[tuple[Demand, Job]], count: int, devices: Sequence[Device], memory_mib: float) -> bool:
    """Returns whether the largest of the jobs fit, `count` on every GPU, into its memory and into that of the machine."""
    smallest = min(device.memory_mib or 0.0 for device in devices)
    on_gpu = sorted((demand.memory_mib for demand, _ in jobs), reverse=True)
    on_host = sorted((cost.host_mib(job.specs[0], replicas=job.replicas) or 0.0 for _, job in jobs), reverse=True)
    return (
        smallest > 0.0
        and sum(on_gpu[:count]) <= GPU_MEMORY_SHARE * smallest
        and sum(on_host[: count * len(devices)]) <= HOST_MEMORY_SHARE * memory_mib
    )


def _even_parts(ids: list[str], parts: int) -> list[list[str]]:
    bounds = [len(ids) * part // parts for part in range(parts + 1)]
    return [ids[low:high] for low, high in itertools.pairwise(bounds) if high > low]


def _halved(ids: list[str], work: Mapping[str, float], limit: float) -> list[list[str]]:
    """Returns the parts of a stack that halving it makes until each has at most so much work, or is a single run."""
    if len(ids) == 1 or sum(work[run_id] for run_id in ids) <= limit:
        return [ids]
    return [part for half in _even_parts(ids, 2) for part in _halved(half, work, limit)]


def _work(spec: RunSpec) -> float:
    """Returns a run's work in any unit. Counted, not measured: measured times would change how a killed suite goes on."""
    flops = cost.training_flops_per_update(spec)
    return float(spec.examples) if flops is None else flops * spec.updates
