"""What is going on, as numbers kept from notices: behind the live view, and behind `gapbench status` through session.json."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from gapbench.catalog.entries import Metric
from gapbench.core.errors import StoreError
from gapbench.core.events import FINAL, Outcome
from gapbench.execution.jobs import Slot
from gapbench.execution.notices import Begun, Ended, ExpectedJob, JobEnded, JobProgressed, JobStarted, Notice, Stopping
from gapbench.execution.rules import simulate
from gapbench.store import ResultsDirectory, Session, SessionJob, write_session
from gapbench.store.schema import utc_now

TRUST_SECONDS = {"measured": 20.0, "rough": 2.0, "unknown": 0.0}
"""By what predictions rest on: the seconds of training that it takes until they count no more than the measurement."""

PROGRAM_TRUST_SECONDS = 1.0
"""The same for a program against all programs, and for a running job against its program."""

FIRST_SECONDS = 3.0
"""Without any prediction there is no forecast before something has trained for so long."""

SURE_SHARE = 0.05
SURE_SECONDS = 10.0
"""A forecast that rests on rough predictions is rough until this share of the work, and so many seconds, have been measured."""

BEAT_SECONDS = 5.0


@dataclass
class Running:
    """One job in its slot."""

    title: str
    expected: ExpectedJob
    updates: int
    update: int
    given: float
    """When its worker got it."""
    first_of_worker: bool
    metric: Metric | None
    """That its runs are compared by."""
    examples_per_second: float = 0.0
    headlines: tuple[float | None, ...] = ()
    """By run."""
    began: float | None = None
    """When its first sign of life came: before that its worker starts, or reads data."""
    first_update: int = 0
    """That was done then."""
    seen: float = 0.0
    """When its last sign of life came."""

    @property
    def training(self) -> bool:
        """Whether it has begun to train."""
        return self.began is not None

    @property
    def headline(self) -> float | None:
        """Mean over the runs of the stack, of the last evaluation."""
        known = [value for value in self.headlines if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def speed(self) -> Speed:
        """From its first to its last sign of life."""
        if self.began is None:
            return Speed()
        return Speed(self.seen - self.began, self.expected.seconds * (self.update - self.first_update) / self.updates)

    @property
    def predicted_left(self) -> float:
        """The seconds predicted for the rest."""
        share = self.expected.share_left if self.began is None else 1.0 - self.update / self.updates
        return self.expected.seconds * share


@dataclass(frozen=True)
class Speed:
    """Seconds that training took, beside those that were predicted for the same updates."""

    actual: float = 0.0
    predicted: float = 0.0

    def __add__(self, other: Speed) -> Speed:
        return Speed(self.actual + other.actual, self.predicted + other.predicted)

    def ratio(self, otherwise: float, trust: float) -> float:
        """Returns actual by predicted seconds; the shorter both are, the more of `otherwise` it is."""
        return (self.actual + trust * otherwise) / (self.predicted + trust) if self.predicted + trust > 0.0 else otherwise


@dataclass
class Forecast:
    """How long the rest will take: the cost model's seconds, corrected by what was measured so far, played through over the slots.

    At first there is only the prediction. Each second of training then shifts the weight: of all jobs together, of each program, and
    of a running job itself (its evaluations included, for they are part of its time). What a worker takes to start, and what a job
    takes to set up, is measured apart, for it does not grow with a job's length.
    """

    begun: Begun
    running: dict[int, Running] = field(default_factory=dict)
    """By number of the slot."""
    _waiting: dict[tuple[str, ...], ExpectedJob] = field(default_factory=dict)
    _trained: dict[int, Speed] = field(default_factory=lambda: defaultdict(Speed))
    """By program, of the jobs that have ended."""
    _worker_setups: list[float] = field(default_factory=list)
    """From giving a new worker its first job to the first update."""
    _job_setups: list[float] = field(default_factory=list)
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
                first = notice.slot not in self._used
                self.running[notice.slot] = Running(notice.title, expected, notice.updates, notice.update, now, first, notice.metric)
                self._used.add(notice.slot)
            case JobProgressed() if notice.slot in self.running:
                job = self.running[notice.slot]
                if job.began is None:
                    job.began, job.first_update = now, notice.update
                    (self._worker_setups if job.first_of_worker else self._job_setups).append(now - job.given)
                job.update, job.updates, job.seen = notice.update, notice.updates, now
                job.examples_per_second, job.headlines = notice.examples_per_second, notice.headline
            case JobEnded():
                self._end(notice, now)
            case _:
                pass

    @property
    def fraction(self) -> float:
        """Of the whole, what was done before included, by predicted work."""
        if self._total <= 0.0:
            return 0.0
        running = sum(job.expected.seconds - job.predicted_left for job in self.running.values())
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
        ratios, setups = self._ratios(), {first: self._setup(first) for first in (True, False)}
        running = {number: (job.expected.demand, self._job_left(job, now, ratios)) for number, job in self.running.items()}
        used = set(self._used)

        def seconds(job: ExpectedJob, slot: Slot) -> float:
            first = slot.number not in used
            used.add(slot.number)
            return setups[first] + job.seconds * job.share_left * ratios[job.program]

        waiting = ((job, job.demand) for job in self._waiting.values())
        ends = [left for _, left in running.values()]
        ends += [job.ends for job in simulate(waiting, self.begun.slots, seconds, running)]
        return max(ends, default=0.0)

    def job_seconds_left(self, slot: int, now: float) -> float | None:
        """Returns the seconds until a slot's job ends; None before it trains, and where there is neither prediction nor measurement."""
        job = self.running.get(slot)
        if job is None or not job.training or (self.begun.basis == "unknown" and (job.speed.predicted <= 0.0 or job.speed.actual < 1.0)):
            return None
        return self._job_left(job, now, self._ratios())

    def _end(self, notice: JobEnded, now: float) -> None:
        job = self.running.pop(notice.slot, None)
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
        if job is not None and job.training:
            if Outcome.OK in notice.outcomes.values():
                job.update, job.seen = job.updates, now
            self._trained[job.expected.program] += job.speed

    def _expected(self, run_ids: tuple[str, ...]) -> ExpectedJob:
        """Returns what is expected of runs that train in other jobs than was planned: their shares."""
        jobs = [self._of_run[run_id] for run_id in run_ids if run_id in self._of_run]
        if not jobs:
            return ExpectedJob(run_ids, 0.0, 1.0, -1)
        return replace(jobs[0], run_ids=run_ids, seconds=sum(job.seconds / len(job.run_ids) for job in jobs))

    def _by_program(self) -> Mapping[int, Speed]:
        found = self._trained.copy()
        for job in self.running.values():
            found[job.expected.program] += job.speed
        return found

    def _overall(self) -> Speed:
        return sum(self._by_program().values(), Speed())

    def _ratios(self) -> Mapping[int, float]:
        """Returns actual by predicted seconds, by program: of one that has not trained yet, those of all together."""
        overall = self._overall().ratio(1.0, TRUST_SECONDS[self.begun.basis])
        known = {program: speed.ratio(overall, PROGRAM_TRUST_SECONDS) for program, speed in self._by_program().items()}
        return defaultdict(lambda: overall, known)

    def _job_left(self, job: Running, now: float, ratios: Mapping[int, float]) -> float:
        ratio = ratios[job.expected.program]
        if not job.training:
            return max(0.0, self._setup(job.first_of_worker) - (now - job.given)) + job.predicted_left * ratio
        own = job.speed.ratio(ratio, PROGRAM_TRUST_SECONDS)
        return max(0.0, job.predicted_left * own - (now - job.seen))

    def _setup(self, first: bool) -> float:
        later = fmean(self._job_setups or [0.0])
        return fmean(self._worker_setups or [max(later, self.begun.start_seconds)]) if first else later


@dataclass
class Tracker:
    """The whole execution."""

    now: Callable[[], float] = time.monotonic
    begun: Begun | None = None
    ended: Counter[Outcome] = field(default_factory=Counter)
    """Runs that have ended since the start."""
    stopping: bool = False
    over: Ended | None = None
    predicted_seconds: float | None = None
    """By the clock, as predicted before anything was measured."""
    _forecast: Forecast | None = None
    _started: float = 0.0
    _stopped: float | None = None

    def take(self, notice: Notice) -> None:
        """Takes a notice."""
        now = self.now()
        if self._forecast is not None:
            self._forecast.take(notice, now)
        match notice:
            case Begun():
                self.begun, self._started = notice, now  # of several executions, one after another, the latest counts
                self.ended, self.over, self._stopped = Counter(), None, None
                self._forecast = Forecast(notice)
                self.predicted_seconds = self._forecast.seconds_left(now)
            case JobEnded():
                self.ended.update(outcome for outcome in notice.outcomes.values() if outcome in FINAL)
            case Stopping():
                self.stopping = True
            case Ended():
                self.over, self._stopped = notice, now
            case _:
                pass

    @property
    def slots(self) -> Mapping[int, Running]:
        """What trains now, by number of the slot."""
        return self._forecast.running if self._forecast else {}

    @property
    def runs(self) -> int:
        """Of the whole selection, those that are done before included."""
        return self.begun.runs + self.begun.done if self.begun else 0

    @property
    def runs_ended(self) -> int:
        """Of the whole selection, whatever their outcome."""
        return self.ended.total() + (self.begun.done if self.begun else 0)

    @property
    def runs_failed(self) -> int:
        """Of those that have ended, those that are not ok."""
        return self.ended.total() - self.ended[Outcome.OK] + (self.begun.failed if self.begun else 0)

    @property
    def fraction(self) -> float:
        """Of the whole, as predicted."""
        return self._forecast.fraction if self._forecast else 0.0

    @property
    def seconds(self) -> float:
        """From the start to now, or to the end."""
        return (self.now() if self._stopped is None else self._stopped) - self._started if self.begun else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until everything has ended; None where nothing is known yet."""
        return self._forecast.seconds_left(self.now()) if self._forecast else None

    @property
    def rough(self) -> bool:
        """Whether `seconds_left` is a guess more than a measurement."""
        return self._forecast is None or self._forecast.rough

    def job_seconds_left(self, slot: int) -> float | None:
        """Returns the seconds until a slot's job ends; None before it trains."""
        return self._forecast.job_seconds_left(slot, self.now()) if self._forecast else None


class Heartbeat:
    """Writes session.json while runs train: what others see of it, and the sign that somebody is at work.

    A context manager that is called with notices. Writes from a thread of its own, so that a slow disk holds nothing up.
    """

    def __init__(self, results: ResultsDirectory, seconds: float = BEAT_SECONDS) -> None:
        self._results = results
        self._seconds = seconds
        self._tracker = Tracker()
        self._started_at = ""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._started_at:
            self.write("ended" if self._tracker.over is not None and not self._tracker.over.interrupted else "interrupted")

    def __call__(self, notice: Notice) -> None:
        """Takes a notice."""
        with self._lock:
            self._tracker.take(notice)
        if isinstance(notice, Begun):
            self._started_at = utc_now()
            self.write("training")
            self._thread.start()

    def _beat(self) -> None:
        while not self._end.wait(self._seconds):
            self.write("stopping" if self._tracker.stopping else "training")

    def write(self, state: str) -> None:
        """Writes the state of things now."""
        with self._lock:
            session = self._session(state)
        # Without this file others see less, and nothing else is lost: a full disk is told of by what matters.
        with contextlib.suppress(StoreError):
            write_session(self._results.path, session)

    def _session(self, state: str) -> Session:
        tracker = self._tracker
        assert tracker.begun is not None
        jobs = tuple(
            SessionJob(job.title, job.expected.run_ids, job.update, job.updates, _test_accuracy(job), tracker.job_seconds_left(slot))
            for slot, job in sorted(tracker.slots.items())
        )
        return Session(
            state=state,
            host=platform.node(),
            pid=os.getpid(),
            command=tracker.begun.command,
            folder=str(Path.cwd()),
            started_at=self._started_at,
            seconds=tracker.seconds,
            slots=len(tracker.begun.slots),
            threads=tracker.begun.threads,
            devices=tracker.begun.devices,
            jobs=jobs,
            seconds_left=tracker.seconds_left,
            rough=tracker.rough,
        )


def _test_accuracy(job: Running) -> float | None:
    """Returns the headline of a job as the file of the session names it; None where its metric is another."""
    return job.headline if job.metric is not None and job.metric.column("test") == "test_accuracy" else None
