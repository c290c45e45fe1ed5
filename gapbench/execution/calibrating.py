"""What jobs and starts of workers take on this machine, learned for later plans: the `Stopwatch` and `calibrate`.

While a suite trains, the stopwatch, an observer of the scheduler's notices, notes what its jobs took. `gapbench plan --calibrate` lets
the scheduler train short jobs of every program of a suite, on as many slots at once as will train it, under the same stopwatch.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from gapbench import cost
from gapbench.core.events import Outcome
from gapbench.cost.calibration import (
    Scales,
    Start,
    Timed,
    lookup,
    program_of,
    record_job,
    record_measurement,
    record_start,
    scaled,
)
from gapbench.cost.guess import checkpoint_seconds, evaluated_examples
from gapbench.execution.jobs import Job, Pending, Predictions, Slot, demand_of, place_of
from gapbench.execution.notices import JobEnded, JobStarted, Notice
from gapbench.execution.rules import slots_at_once
from gapbench.sizing import worth_compiling
from gapbench.sizing.sizes import facts_of, model_size
from gapbench.store import ResultsDirectory
from gapbench.suite.batches import shortened
from gapbench.suite.runspec import RunSpec

# The stopwatch.

TYPICAL_SETUP_SECONDS = 0.05
"""Of a job in a worker that has trained before, where none of its program is known."""
TYPICAL_OUTSIDE_SECONDS = 0.05
"""The same for what lies outside of the buckets."""


@dataclass
class _Watched:
    """A slot."""

    given: float = 0.0
    """When its present job was given to it."""
    from_beginning: bool = False
    """Whether that job began at its first update: of another it is not known where the rest of it trained."""
    jobs: int = 0
    """That its worker has ended."""
    sound: bool = True
    """Whether it still is its first worker; when another one had to be started is not seen from here."""
    programs: set[object] = field(default_factory=set)


class Stopwatch:
    """Takes notices as they come. Starts of workers are remembered for later plans at once.

    Args:
        results: where outcomes are read.
        slots: of the layout.
        runs: that may train, by id; more may come.
        note: receives what each job took; default: it is remembered for later plans.
        now: the time in seconds.
    """

    def __init__(
        self,
        results: ResultsDirectory,
        slots: Sequence[Slot],
        runs: Mapping[str, RunSpec],
        note: Callable[[Timed], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._results = results
        self._place = place_of(slots)
        self._runs = runs
        self._note = note or partial(record_job, self._place)
        self._now = now
        self._slots = {slot.number: _Watched() for slot in slots}

    def __call__(self, notice: Notice) -> None:
        """Takes a notice."""
        if isinstance(notice, JobStarted):
            slot = self._slots[notice.slot]
            slot.given, slot.from_beginning = self._now(), notice.update == 0
        elif isinstance(notice, JobEnded):
            self._ended(self._slots[notice.slot], notice.outcomes)

    def _ended(self, slot: _Watched, outcomes: Mapping[str, Outcome]) -> None:
        if set(outcomes.values()) != {Outcome.OK}:
            slot.sound = False
            return
        job = Job.of({run_id: self._runs[run_id] for run_id in outcomes})
        seconds = self._seconds(job)
        if slot.from_beginning and seconds is not None:
            self._timed(slot, job, seconds, outside=max(0.0, self._now() - slot.given - seconds.total))
        slot.jobs += 1

    def _timed(self, slot: _Watched, job: Job, seconds: cost.Buckets, outside: float) -> None:
        spec = job.specs[0]
        program = (program_of(spec), job.replicas)
        setup = max(0.0, seconds.other - checkpoint_seconds(spec, job.replicas, seconds.train + seconds.evaluation))
        if slot.sound and slot.jobs == 0:
            entry = lookup(spec, self._place, replicas=job.replicas)
            typical = entry.measured if entry else None
            usual = TYPICAL_SETUP_SECONDS if typical is None else typical.setup_seconds + typical.program_seconds
            start = Start(
                outside_seconds=max(0.0, outside - TYPICAL_OUTSIDE_SECONDS),
                inside_seconds=max(0.0, setup - usual),
                base_mib=self._base_mib(job),
            )
            record_start(self._place, start)
        warm = slot.jobs > 0 and slot.sound
        known_setup = setup if warm and program in slot.programs else None
        self._note(Timed(spec, job.replicas, seconds, known_setup, outside if warm else None))
        slot.programs.add(program)

    def _base_mib(self, job: Job) -> float | None:
        """Returns what the worker held at its peak, besides what the job needs; its first job, for a peak never falls."""
        peak = self._recorded(job.run_ids[0], "peak_memory_mib")
        held = cost.held_mib(job.specs[0], replicas=job.replicas, device_kind=self._place.device_kind)
        if self._place.device_kind != "cpu" or held is None or not math.isfinite(peak):
            return None
        return max(0.0, peak - held)

    def _seconds(self, job: Job) -> cost.Buckets | None:
        """Returns what the outcomes say that a job took, all its replicas together; None where they do not say it."""
        names = ("train_seconds", "evaluation_seconds", "other_seconds")
        found = cost.Buckets(*(sum(self._recorded(run_id, name) for run_id in job.run_ids) for name in names))
        return found if found.train > 0.0 and found.evaluation >= 0.0 and math.isfinite(found.total) else None

    def _recorded(self, run_id: str, name: str) -> float:
        """Returns a number of an outcome; not a number where it is not there."""
        stored = self._results.run(run_id).outcome()
        value = stored.summary.get(name) if stored else None
        return float(value) if isinstance(value, (int, float)) else math.nan


# Calibrating.

ALL_SECONDS = 150.0
"""After which no further program is begun with."""
PROGRAM_SECONDS = 25.0
"""Within which a program is timed, as a rule; what is predicted to need more is left out."""
PATIENCE = 3.0
"""A program that takes so many times longer is given up."""
LOOP_SECONDS = 2.0
"""That the updates of the last job of a program should take."""
COLD_UPDATES, FEWEST_UPDATES, TRIAL_UPDATES = 2, 3, 10
"""Of the first job of a program, which warms everything up; at least of the next ones; at most of the second."""
EVALUATION_SECONDS = 1.5
"""A larger test set is cut down until one evaluation is guessed to take this: its time grows with its examples."""
FEWEST_TESTS = 512


@dataclass(frozen=True)
class Measured:
    """Which programs a calibration measured."""

    programs: int
    """How many."""
    left_out: Mapping[str, str]
    """Why one was not measured, by its title."""


def programs_of(jobs: Sequence[Job], place: cost.Place) -> list[Job]:
    """Returns one job of every program, number of replicas included; those first whose jobs are predicted to take longest together."""
    firsts: dict[object, Job] = {}
    seconds: dict[object, float] = defaultdict(float)
    known = Predictions(place)
    for job in jobs:
        key = (program_of(job.specs[0]), job.replicas)
        firsts.setdefault(key, job)
        seconds[key] += known.of(job).seconds or 0.0
    return [firsts[key] for key in sorted(firsts, key=lambda key: -seconds[key])]


class _FailedError(Exception):
    """A program could not be measured."""


@dataclass
class Calibration:
    """Short jobs of every program, to be trained by a scheduler that its stopwatch observes, and what is learned from them."""

    results: ResultsDirectory
    """Of the short jobs alone."""
    jobs: Sequence[Job]
    """What is left to train."""
    slots: Sequence[Slot]
    """Where it would."""
    titles: Callable[[Job], str]
    """Names a job for people."""
    say: Callable[[str], None]
    """Receives what is about to be done."""
    measured: int = 0
    """Programs."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why one was not measured, by its title."""

    def __post_init__(self) -> None:
        self._place = place_of(self.slots)
        self._runs: dict[str, RunSpec] = {}
        self._timed: list[Timed] = []

    def stopwatch(self) -> Stopwatch:
        """Returns what has to observe the scheduler."""
        return Stopwatch(self.results, self.slots, self._runs, self._timed.append)

    def rounds(self) -> Iterator[list[Pending]]:
        """Yields jobs that train at once; asked for the next ones, it looks at what those took."""
        programs, began = programs_of(self.jobs, self._place), time.monotonic()
        count = len(programs)
        self.say(
            f"measuring {count} programs on {len(self.slots)} slots at once: up to {PROGRAM_SECONDS:.0f} s each, "
            f"about {(min(ALL_SECONDS, PROGRAM_SECONDS * count) + PROGRAM_SECONDS) / 60.0:.0f} min at most"
        )
        for number, job in enumerate(programs, start=1):
            title = self.titles(job)
            try:
                if time.monotonic() - began > ALL_SECONDS:
                    raise _FailedError("no time was left")
                small = _with_few_tests(job, self._place.device_kind)
                _check(small, self._place.device_kind)
                self.say(f"[{number}/{count}] {title}")
                scales = yield from self._scales(small)
            except _FailedError as error:
                self.left_out[title] = str(error)
                continue
            record_measurement(job.specs[0], self._place, replicas=job.replicas, measured=scales)
            self.measured += 1

    def _scales(self, job: Job) -> Generator[list[Pending], None, Scales]:
        """Times a program: one cold job, one that says how many updates fit, and one that has as many."""
        cold = yield from self._round(job, COLD_UPDATES)
        trial = last = yield from self._round(job, min(TRIAL_UPDATES, _fitting(cold)))
        if _fitting(trial) > trial.spec.updates:
            last = yield from self._round(job, _fitting(trial))
        kind = self._place.device_kind
        guess, found = cost.guess(job.specs[0], replicas=job.replicas, device_kind=kind), scaled(last, kind)
        evaluation = fmean((scaled(trial, kind).evaluation, found.evaluation))
        program, work = guess.program_seconds, cost.work_of(cold.spec, replicas=job.replicas)
        if cold.outside_seconds is not None:  # else what only the start of a worker takes is in it, too
            warm = found.train * guess.train(work) + evaluation * guess.evaluation(work) + last.seconds.other
            program = max(0.0, cold.seconds.total - warm)
        outside = guess.outside_seconds if last.outside_seconds is None else last.outside_seconds
        return Scales(
            train=found.train, evaluation=evaluation, setup_seconds=last.seconds.other, program_seconds=program, outside_seconds=outside
        )

    def _round(self, job: Job, updates: int) -> Generator[list[Pending], None, Timed]:
        """Trains a job that makes so many updates and one evaluation in every slot at once that will train its program.

        Returns the means over the slots.
        """
        kind = self._place.device_kind
        specs = [_shortened(spec, min(updates, spec.updates), PATIENCE * PROGRAM_SECONDS / job.replicas) for spec in job.specs]
        compiles = worth_compiling(job.specs[0], replicas=job.replicas, device_kind=kind)
        begun = len(self._runs)
        copies = []
        for _ in slots_at_once(demand_of(job, kind), self.slots):
            runs = {f"run-{len(self._runs) + replica}": spec for replica, spec in enumerate(specs)}
            self._runs.update(runs)
            copies.append(Pending(Job.of(runs), compiles=compiles))
        self._timed.clear()
        yield copies
        timed = [one for one in self._timed if one.replicas == job.replicas]
        if len(timed) < len(copies):
            raise _FailedError(self._why(itertools.islice(self._runs, begun, None)))
        seconds = cost.Buckets(*(fmean(getattr(one.seconds, name) for one in timed) for name in ("train", "evaluation", "other")))
        outside = [one.outside_seconds for one in timed if one.outside_seconds is not None]
        return Timed(specs[0], job.replicas, seconds, None, fmean(outside) if len(outside) == len(timed) else None)

    def _why(self, run_ids: Iterator[str]) -> str:
        """Returns why one of these runs was not timed."""
        for run_id in run_ids:
            stored = self.results.run(run_id).outcome()
            if stored is not None and stored.outcome is Outcome.TIMEOUT:
                return f"it takes longer than {PATIENCE * PROGRAM_SECONDS:.0f} s"
            if stored is not None and stored.reason:
                return stored.reason
        return "memory did not suffice for its stack"


def _fitting(timed: Timed) -> int:
    """Returns how many such updates make the last job of a program."""
    return max(FEWEST_UPDATES, math.ceil(LOOP_SECONDS * timed.spec.updates / timed.seconds.train))


def _check(job: Job, device_kind: str) -> None:
    """Raises _FailedError where even a few updates are guessed to take too long."""
    guess = cost.guess(job.specs[0], replicas=job.replicas, device_kind=device_kind)
    needed = (COLD_UPDATES + 2 * FEWEST_UPDATES) * (guess.update_seconds + guess.probe_seconds) + 6 * EVALUATION_SECONDS
    if model_size(job.specs[0]) is not None and needed > PATIENCE * PROGRAM_SECONDS:
        raise _FailedError(f"a few of its updates would take about {needed:,.0f} s")


def _shortened(spec: RunSpec, updates: int, limit_seconds: float) -> RunSpec:
    """Returns a run with few updates and one evaluation, after the last: with recalibrated statistics, as most are."""
    change = {"evaluations": 1, "headline_evaluations": 1, "keep_weights": (), "time_limit_seconds": limit_seconds}
    if spec.adaptive_batch is not None:  # measured, but never decided on: it makes exactly its planned updates
        change["adaptive_batch"] = spec.adaptive_batch.model_copy(update={"decisions": 1})
    return spec.model_copy(update=change | shortened(spec, updates))


def _with_few_tests(job: Job, device_kind: str) -> Job:
    """Returns a job whose evaluations do not take long, where its data set's test set can be cut."""
    spec = job.specs[0]
    facts, guess = facts_of(spec), cost.guess(spec, replicas=job.replicas, device_kind=device_kind)
    if facts is None or model_size(spec) is None:
        return job
    tests = int(spec.dataset.option("test_size", 0) or facts.test_examples)
    once = 2.0 * evaluated_examples(spec) * guess.example_seconds
    fewer = max(FEWEST_TESTS, int(tests * min(1.0, EVALUATION_SECONDS / max(once, 1e-9))))
    if fewer >= tests:
        return job
    dataset = spec.dataset.model_copy(update={"options": {**spec.dataset.options, "test_size": fewer}})
    return Job(job.run_ids, tuple(spec.model_copy(update={"dataset": dataset}) for spec in job.specs))
