"""What jobs and the starts of workers take on this machine, learned for later plans: `calibrate` and the `Stopwatch`.

`gapbench plan --calibrate` measures every program of a suite for a short time, on as many slots at once as will train it. While a suite
trains, the stopwatch, an observer of the scheduler's notices, notes what its jobs took.
"""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from gapbench import cost
from gapbench.core.errors import GapbenchError
from gapbench.core.events import Outcome
from gapbench.core.machine import free_memory_mib
from gapbench.cost.calibration import Scales, Start, lookup, program_of, record_job, record_measurement, record_start
from gapbench.cost.guess import checkpoint_seconds, evaluated_examples
from gapbench.execution.executor import Executor, Gone, LocalProcesses, Setup, job_message
from gapbench.execution.jobs import Job, Pending, Predictions, Slot, demand_of, place_of
from gapbench.execution.notices import JobEnded, JobStarted, Notice
from gapbench.execution.rules import slots_at_once
from gapbench.sizing.sizes import facts_of, model_size
from gapbench.store import ResultsDirectory

MEASURING_COMMAND = (sys.executable, "-P", "-m", "gapbench.execution.measuring")

ALL_SECONDS = 150.0
"""After which no further program is begun with."""
PROGRAM_SECONDS = 25.0
"""Within which a program is measured, as a rule; what is predicted to need more is left out."""
PATIENCE = 3.0
"""A program that takes so many times longer is given up."""
START_SECONDS = 120.0
"""Within which workers must have started."""
EVALUATION_SECONDS = 1.5
"""A larger test set is cut down until one evaluation is guessed to take this: its time grows with its examples."""
FEWEST_TESTS = 512
LOOP_UPDATES = 12
"""That a slow program makes at least, in its three loops."""


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


def calibrate(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    setup_of: Callable[[Slot], Setup],
    *,
    titles: Callable[[Job], str],
    say: Callable[[str], None],
    executor: Callable[[], Executor] | None = None,
) -> Measured:
    """Measures the programs of jobs and records what it finds in the cache.

    Args:
        jobs: what is left to train.
        slots: where it would.
        setup_of: what a slot's worker needs.
        titles: names a job for people.
        say: receives what is about to be done.
        executor: returns one that runs measuring workers; default: processes of this machine.

    Raises:
        GapbenchError: a worker cannot start.
    """
    place = place_of(slots)
    crew = _Crew(slots, setup_of, executor or (lambda: LocalProcesses(MEASURING_COMMAND)))
    left_out: dict[str, str] = {}
    starts: list[Start] = []
    """Of workers; what their first jobs took longer is corrected at the end."""
    once: list[float] = []
    """What a program takes once in a warm worker, of each that was measured in one."""
    measured = 0
    began = time.monotonic()
    programs = programs_of(jobs, place)
    say(
        f"measuring {len(programs)} programs on {len(slots)} slots at once: up to {PROGRAM_SECONDS:.0f} s each, "
        f"about {(min(ALL_SECONDS, PROGRAM_SECONDS * len(programs)) + PROGRAM_SECONDS) / 60.0:.0f} min at most"
    )
    try:
        for number, job in enumerate(programs, start=1):
            small = _with_few_tests(job, place.device_kind)
            reason = "no time was left" if time.monotonic() - began > ALL_SECONDS else _obstacle(small, place)
            if reason:
                left_out[titles(job)] = reason
                continue
            say(f"[{number}/{len(programs)}] {titles(job)}")
            crew.assemble()
            try:
                answers = crew.measure(small, slots_at_once(demand_of(small, place.device_kind), slots))
            except _FailedError as error:
                left_out[titles(job)] = str(error)
                continue
            warm = [answer["scales"]["program_seconds"] for answer in answers if not answer["cold"]]
            once += [fmean(warm)] if warm else []
            if cold := [answer for answer in answers if answer["cold"]]:
                starts.append(_start_of(cold, small, place, crew.ready_seconds))
            mean = {name: fmean(answer["scales"][name] for answer in answers) for name in Scales.model_fields}
            mean["program_seconds"] = fmean(warm) if warm else median(once or [0.0])
            record_measurement(job.specs[0], place, replicas=job.replicas, measured=Scales(**mean))
            measured += 1
    finally:
        crew.dismiss()
    usual = median(once or [0.0])
    for start in starts:
        record_start(place, start.model_copy(update={"inside_seconds": max(0.0, start.inside_seconds - usual)}))
    return Measured(measured, left_out)


def _start_of(cold: Sequence[Mapping[str, Any]], job: Job, place: cost.Place, ready_seconds: float) -> Start:
    """Returns what only the start of a worker takes, from the answers to the first jobs of workers: it is in them."""
    held = cost.held_mib(job.specs[0], replicas=job.replicas, device_kind=place.device_kind)
    peaks = [answer["peak_mib"] for answer in cold if answer["peak_mib"] is not None]
    return Start(
        outside_seconds=ready_seconds + fmean(answer["import_seconds"] for answer in cold),
        inside_seconds=fmean(answer["scales"]["program_seconds"] for answer in cold),
        base_mib=max(0.0, fmean(peaks) - held) if peaks and held is not None else None,
    )


class _FailedError(Exception):
    """A program could not be measured."""


class _Crew:
    """One measuring worker in every slot."""

    def __init__(self, slots: Sequence[Slot], setup_of: Callable[[Slot], Setup], new_executor: Callable[[], Executor]) -> None:
        self._slots = tuple(slots)
        self._setup_of = setup_of
        self._new_executor = new_executor
        self._executor: Executor | None = None
        self._cold: set[int] = set()
        """Slots whose worker has measured nothing yet."""
        self.ready_seconds = 0.0
        """Until all workers were ready, when they were last started."""

    def assemble(self) -> None:
        """Starts the workers where there are none."""
        if self._executor is not None:
            return
        began = time.monotonic()
        self._executor = self._new_executor()
        for slot in self._slots:
            self._executor.start(slot, self._setup_of(slot))
        self._cold = {slot.number for slot in self._slots}
        try:
            self._gather("ready", START_SECONDS, self._cold)
        except _FailedError as error:
            raise GapbenchError(f"a measuring process could not start: {error}; `gapbench doctor` looks for the cause") from error
        self.ready_seconds = time.monotonic() - began

    def measure(self, job: Job, places: Sequence[int]) -> list[dict[str, Any]]:
        """Lets the workers in these slots measure a job at once; returns their answers. After a failure there are no workers any more.

        An answer is `cold` where it is the first of its worker.
        """
        assert self._executor is not None
        for number in places:
            self._executor.send(number, job_message(Pending(job)))
        found = self._gather("measured", PATIENCE * PROGRAM_SECONDS, places)
        answers = [{**answer, "cold": number in self._cold} for number, answer in found.items()]
        self._cold -= set(places)
        return answers

    def dismiss(self) -> None:
        """Ends the workers: they hold nothing that could be lost."""
        if self._executor is not None:
            self._executor.close()
        self._executor = None

    def _gather(self, kind: str, seconds: float, places: Collection[int]) -> dict[int, dict[str, Any]]:
        """Returns one message of this kind from every worker in these slots."""
        assert self._executor is not None
        until = time.monotonic() + seconds
        found: dict[int, dict[str, Any]] = {}
        while len(found) < len(places):
            received = self._executor.receive(max(0.01, until - time.monotonic()))
            if received is None:
                self.dismiss()
                raise _FailedError(f"it takes longer than {seconds:.0f} s")
            number, message = received
            if isinstance(message, Gone) or message["kind"] != kind:
                words = message.printed.splitlines() if isinstance(message, Gone) else [str(message.get("error", ""))]
                self.dismiss()
                raise _FailedError(words[-1] if words else "its process ended")
            found[number] = dict(message)
        return found


def _obstacle(job: Job, place: cost.Place) -> str:
    """Returns why a job cannot be measured; nothing where it can."""
    guess = cost.guess(job.specs[0], replicas=job.replicas, device_kind=place.device_kind)
    known = model_size(job.specs[0]) is not None
    needed = LOOP_UPDATES * (guess.update_seconds + guess.probe_seconds) + 6 * EVALUATION_SECONDS if known else 0.0
    if needed > PATIENCE * PROGRAM_SECONDS:
        return f"a few of its updates would take about {needed:,.0f} s"
    memory, free = place.slots * demand_of(job, place.device_kind).memory_mib, free_memory_mib()
    if place.device_kind == "cpu" and memory > free:
        return f"{place.slots} at a time would need about {memory:,.0f} MiB, {free:,.0f} MiB are free"
    return ""


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
    """Takes notices as they come.

    Args:
        results: where outcomes are read.
        slots: of the layout.
        pending: jobs that may train.
        now: the time in seconds.
    """

    def __init__(
        self, results: ResultsDirectory, slots: Sequence[Slot], pending: Sequence[Pending], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._results = results
        self._place = place_of(slots)
        self._now = now
        self._slots = {slot.number: _Watched() for slot in slots}
        self._specs = {run_id: spec for item in pending for run_id, spec in item.job.runs.items()}

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
        job = Job.of({run_id: self._specs[run_id] for run_id in outcomes})
        seconds = self._seconds(job)
        if slot.from_beginning and seconds is not None:
            self._note(slot, job, seconds, outside=max(0.0, self._now() - slot.given - seconds.total))
        slot.jobs += 1

    def _note(self, slot: _Watched, job: Job, seconds: cost.Buckets, outside: float) -> None:
        spec = job.specs[0]
        program = (program_of(spec), job.replicas)
        setup = max(0.0, seconds.other - checkpoint_seconds(spec, job.replicas, seconds.train + seconds.evaluation))
        entry = lookup(spec, self._place, replicas=job.replicas)
        if slot.sound and slot.jobs == 0:
            typical = entry.measured if entry else None
            usual = TYPICAL_SETUP_SECONDS if typical is None else typical.setup_seconds + typical.program_seconds
            start = Start(
                outside_seconds=max(0.0, outside - TYPICAL_OUTSIDE_SECONDS),
                inside_seconds=max(0.0, setup - usual),
                base_mib=self._base_mib(job),
            )
            record_start(self._place, start)
        warm = slot.jobs > 0 and slot.sound
        record_job(
            spec,
            self._place,
            replicas=job.replicas,
            seconds=seconds,
            setup_seconds=setup if warm and program in slot.programs else None,
            outside_seconds=outside if warm else None,
        )
        slot.programs.add(program)

    def _base_mib(self, job: Job) -> float | None:
        """Returns what the worker held at its peak, besides what the job needs; its first job, for a peak never falls."""
        stored = self._results.run(job.run_ids[0]).outcome()
        peak = stored.summary.get("peak_memory_mib") if stored else None
        held = cost.held_mib(job.specs[0], replicas=job.replicas, device_kind=self._place.device_kind)
        if self._place.device_kind != "cpu" or held is None or not isinstance(peak, (int, float)) or not math.isfinite(peak):
            return None
        return max(0.0, peak - held)

    def _seconds(self, job: Job) -> cost.Buckets | None:
        """Returns what the outcomes say that a job took, all its replicas together; None where they do not say it."""
        stored = [self._results.run(run_id).outcome() for run_id in job.run_ids]
        totals = []
        for name in ("train_seconds", "evaluation_seconds", "other_seconds"):
            shares = [run.summary.get(name) if run else None for run in stored]
            known = [float(share) for share in shares if isinstance(share, (int, float)) and math.isfinite(share)]
            if len(known) != len(shares):
                return None
            totals.append(math.fsum(known))
        found = cost.Buckets(*totals)
        return found if found.train > 0.0 and found.evaluation >= 0.0 else None
