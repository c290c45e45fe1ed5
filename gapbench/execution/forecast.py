"""How long the rest will take: the cost model's seconds, corrected by what was measured so far, played through over the slots.

At first there is only the prediction. Each second of training then shifts the weight: of all jobs together, of each program, and
of a running job itself (its evaluations included, for they are part of its time). What a worker takes to start, and what a job
takes to set up, is measured apart, for it does not grow with a job's length.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

from gapbench.core.events import FINAL, Outcome
from gapbench.execution.notices import Begun, ExpectedJob, JobEnded, JobProgressed, JobStarted, Notice

TRUST_SECONDS = {"measured": 20.0, "rough": 2.0, "unknown": 0.0}
"""By what predictions rest on: the seconds of training that it takes until they count no more than the measurement."""

PROGRAM_TRUST_SECONDS = 1.0
"""The same for a program against all programs, and for a running job against its program."""

FIRST_SECONDS = 3.0
"""Without any prediction there is no forecast before something has trained for so long."""

SURE_SHARE = 0.05
SURE_SECONDS = 10.0
"""A forecast that rests on rough predictions is rough until this share of the work, and so many seconds, have been measured."""


@dataclass
class _Clocked:
    """A job in a slot."""

    expected: ExpectedJob
    given: float
    first_of_worker: bool
    started: float | None = None
    start_update: int = 0
    update: int = 0
    updates: int = 1
    seen: float = 0.0

    @property
    def actual(self) -> float:
        """Seconds from its first update to its last sign of life."""
        return 0.0 if self.started is None else self.seen - self.started

    @property
    def predicted(self) -> float:
        """The seconds that were predicted for the same."""
        return 0.0 if self.started is None else self.expected.seconds * (self.update - self.start_update) / self.updates

    @property
    def predicted_left(self) -> float:
        """The seconds predicted for the rest."""
        share = self.expected.share_left if self.started is None else 1.0 - self.update / self.updates
        return self.expected.seconds * share


@dataclass
class _Mean:
    total: float = 0.0
    number: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.number += 1

    def value(self, otherwise: float) -> float:
        return self.total / self.number if self.number else otherwise


@dataclass
class _Speed:
    """Seconds that training took, beside those that were predicted for the same updates."""

    actual: float = 0.0
    predicted: float = 0.0

    def add(self, job: _Clocked | _Speed) -> None:
        self.actual += job.actual
        self.predicted += job.predicted

    def ratio(self, otherwise: float, trust: float) -> float:
        """Returns actual by predicted seconds; the shorter both are, the more of `otherwise` it is."""
        return (self.actual + trust * otherwise) / (self.predicted + trust) if self.predicted + trust > 0.0 else otherwise


@dataclass(frozen=True)
class _Ratios:
    """Actual by predicted seconds: of every program that has trained, and of all together."""

    overall: float
    by_program: dict[int, float]

    def of(self, program: int) -> float:
        return self.by_program.get(program, self.overall)


@dataclass
class Forecast:
    """Takes notices with their time; says what share of the work is done and how long the rest will take."""

    begun: Begun
    _waiting: dict[tuple[str, ...], ExpectedJob] = field(default_factory=dict)
    _running: dict[int, _Clocked] = field(default_factory=dict)
    _trained: dict[int, _Speed] = field(default_factory=dict)
    """By program, of the jobs that have ended."""
    _worker_setup: _Mean = field(default_factory=_Mean)
    """From giving a new worker its first job to the first update."""
    _job_setup: _Mean = field(default_factory=_Mean)
    """The same for its later jobs."""
    _used: set[int] = field(default_factory=set)
    """Slots that have a worker."""
    _ended: float = 0.0
    """Predicted seconds of the runs that have ended."""

    def __post_init__(self) -> None:
        self._waiting = {job.run_ids: job for job in self.begun.jobs}
        self._of_run = {run_id: job for job in self.begun.jobs for run_id in job.run_ids}
        self._total = self.begun.seconds_before + sum(job.seconds for job in self.begun.jobs)

    def take(self, notice: Notice, now: float) -> None:
        """Takes a notice that came at `now`, in seconds of any clock that goes on steadily."""
        match notice:
            case JobStarted():
                expected = self._waiting.pop(notice.run_ids, None) or self._expected(notice.run_ids)
                self._running[notice.slot] = _Clocked(expected, now, notice.slot not in self._used)
                self._used.add(notice.slot)
            case JobProgressed() if notice.slot in self._running:
                job = self._running[notice.slot]
                if job.started is None:
                    job.started, job.start_update = now, notice.update
                    (self._worker_setup if job.first_of_worker else self._job_setup).add(now - job.given)
                job.update, job.updates, job.seen = notice.update, notice.updates, now
            case JobEnded():
                self._end(notice, now)
            case _:
                pass

    @property
    def fraction(self) -> float:
        """Of the whole, what was done before included, by predicted work."""
        if self._total <= 0.0:
            return 0.0
        running = sum(job.expected.seconds - job.predicted_left for job in self._running.values())
        resumed = sum(job.seconds * (1.0 - job.share_left) for job in self._waiting.values())
        return min(1.0, (self.begun.seconds_before + self._ended + running + resumed) / self._total)

    @property
    def rough(self) -> bool:
        """Whether `seconds_left` is a guess more than a measurement."""
        speed = self._overall()
        return self.begun.basis != "measured" and (speed.actual < SURE_SECONDS or speed.predicted < SURE_SHARE * self._total)

    def seconds_left(self, now: float) -> float | None:
        """Returns the seconds until everything has ended, or None where nothing is known yet."""
        if self.begun.basis == "unknown" and self._overall().actual < FIRST_SECONDS:
            return None
        ratios = self._ratios()
        # A job takes as many slots as its width: where one has a GPU to itself, the GPU's other slots wait with it.
        free = [left for job in self._running.values() for left in [self._slot_left(job, now, ratios)] * job.expected.width]
        idle = max(0, self.begun.slots - len(free))
        fresh = max(0, self.begun.slots - len(self._used))
        last = max(free, default=0.0)
        # A slot without a worker pays for starting one.
        free += [self._setup(first=position < fresh) - self._setup(first=False) for position in range(idle)]
        heapq.heapify(free)
        for job in self._waiting.values():
            seconds = self._setup(first=False) + job.seconds * job.share_left * ratios.of(job.program)
            taken = [heapq.heappop(free) for _ in range(min(job.width, len(free)))]
            end = max(taken, default=last) + seconds
            for _ in range(max(1, len(taken))):
                heapq.heappush(free, end)
            last = max(last, end)
        return last

    def job_seconds_left(self, slot: int, now: float) -> float | None:
        """Returns the seconds until a slot's job ends; None before it trains, and where there is neither prediction nor measurement."""
        job = self._running.get(slot)
        if job is None or job.started is None or (self.begun.basis == "unknown" and (job.predicted <= 0.0 or job.actual < 1.0)):
            return None
        return self._slot_left(job, now, self._ratios())

    def _end(self, notice: JobEnded, now: float) -> None:
        job = self._running.pop(notice.slot, None)
        if not notice.outcomes and job is not None:  # back to the queue, run by run
            singles = {(run_id,): self._expected((run_id,)) for run_id in job.expected.run_ids}
            self._waiting = singles | self._waiting
            return
        for run_id, outcome in notice.outcomes.items():
            single = self._expected((run_id,))
            self._waiting.pop((run_id,), None)  # an outcome without a start: it can never fit in memory
            if outcome in FINAL:
                self._ended += single.seconds
            else:
                left = job.predicted_left / job.expected.seconds if job is not None and job.expected.seconds else single.share_left
                self._waiting[(run_id,)] = replace(single, share_left=left)
        if job is not None and job.started is not None:
            if Outcome.OK in notice.outcomes.values():
                job.update, job.seen = job.updates, now
            self._trained.setdefault(job.expected.program, _Speed()).add(job)

    def _expected(self, run_ids: tuple[str, ...]) -> ExpectedJob:
        """Returns what is expected of runs that train in other jobs than was planned: their shares."""
        jobs = [self._of_run[run_id] for run_id in run_ids if run_id in self._of_run]
        if not jobs:
            return ExpectedJob(run_ids, 0.0, 1.0, -1)
        return replace(jobs[0], run_ids=run_ids, seconds=sum(job.seconds / len(job.run_ids) for job in jobs))

    def _overall(self) -> _Speed:
        speed = _Speed()
        for trained in self._trained.values():
            speed.add(trained)
        for job in self._running.values():
            speed.add(job)
        return speed

    def _ratios(self) -> _Ratios:
        overall = self._overall().ratio(1.0, TRUST_SECONDS[self.begun.basis])
        by_program: dict[int, _Speed] = {}
        for program, trained in self._trained.items():
            by_program.setdefault(program, _Speed()).add(trained)
        for job in self._running.values():
            by_program.setdefault(job.expected.program, _Speed()).add(job)
        return _Ratios(overall, {program: speed.ratio(overall, PROGRAM_TRUST_SECONDS) for program, speed in by_program.items()})

    def _slot_left(self, job: _Clocked, now: float, ratios: _Ratios) -> float:
        ratio = ratios.of(job.expected.program)
        if job.started is None:
            return max(0.0, self._setup(job.first_of_worker) - (now - job.given)) + job.predicted_left * ratio
        own = _Speed(job.actual, job.predicted).ratio(ratio, PROGRAM_TRUST_SECONDS)
        return max(0.0, job.predicted_left * own - (now - job.seen))

    def _setup(self, first: bool) -> float:
        later = self._job_setup.value(0.0)
        return self._worker_setup.value(max(later, self.begun.start_seconds)) if first else later
