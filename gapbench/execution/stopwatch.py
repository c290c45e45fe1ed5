"""The stopwatch: lets the next plan know what jobs and the starts of workers took here. An observer of the scheduler's notices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gapbench import cost
from gapbench.core.events import Outcome
from gapbench.cost.calibration import Start, lookup, program_of, record_job, record_start
from gapbench.cost.guess import checkpoint_seconds
from gapbench.execution.jobs import Job, Pending, Slot, place_of
from gapbench.execution.notices import JobEnded, JobStarted, Notice
from gapbench.store import ResultsDirectory

TYPICAL_SETUP_SECONDS = 0.05
"""Of a job in a worker that has trained before, where none of its program is known."""
TYPICAL_OUTSIDE_SECONDS = 0.05
"""The same for what lies outside of the buckets."""


@dataclass
class _Watched:
    """A slot."""

    given: float | None = None
    """When its present job was given to it."""
    from_beginning: bool = True
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
        jobs: that may train.
        now: the time in seconds.
    """

    def __init__(
        self, results: ResultsDirectory, slots: Sequence[Slot], pending: Sequence[Pending], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._results = results
        self._place = place_of(slots)
        self._now = now
        self._slots = {slot.number: _Watched() for slot in slots}
        self._jobs = {run_id: single for item in pending for run_id, single in zip(item.job.run_ids, item.job.singles(), strict=True)}

    def __call__(self, notice: Notice) -> None:
        """Takes a notice."""
        match notice:
            case JobStarted():
                slot = self._slots[notice.slot]
                slot.given, slot.from_beginning = self._now(), notice.update == 0
            case JobEnded():
                self._ended(self._slots[notice.slot], notice.outcomes)
            case _:
                pass

    def _ended(self, slot: _Watched, outcomes: Mapping[str, Outcome]) -> None:
        given, slot.given = slot.given, None
        wall = None if given is None else self._now() - given
        if not outcomes or set(outcomes.values()) != {Outcome.OK}:
            slot.sound = False
            return
        if not slot.from_beginning or wall is None:
            slot.jobs += 1
            return
        job = Job(tuple(outcomes), tuple(self._jobs[run_id].specs[0] for run_id in outcomes))
        seconds = self._seconds(job)
        if seconds is not None:
            self._note(slot, job, seconds, max(0.0, wall - seconds.total))
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
