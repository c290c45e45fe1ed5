"""What is going on, as numbers: the state behind both views, kept from notices."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gapbench.core.outcome import FINAL, Outcome
from gapbench.execution import Begun, JobEnded, JobProgressed, JobStarted, Notice


@dataclass
class Running:
    """One job in its slot."""

    title: str
    run_ids: tuple[str, ...]
    updates: int
    update: int
    examples_per_second: float = 0.0
    accuracies: tuple[float | None, ...] = ()
    first: tuple[float, int] | None = None
    """Time and update of the first sign of life."""
    last: tuple[float, int] | None = None

    @property
    def accuracy(self) -> float | None:
        """Mean over the runs of the stack, of the last evaluation."""
        known = [value for value in self.accuracies if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before there is any."""
        if self.first is None or self.last is None or self.last[1] <= self.first[1]:
            return None
        return (self.updates - self.last[1]) * (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


@dataclass
class Tracker:
    """The whole execution."""

    now: Callable[[], float] = time.monotonic
    begun: Begun | None = None
    slots: dict[int, Running] = field(default_factory=dict)
    ended: Counter[Outcome] = field(default_factory=Counter)
    _work_done: float = 0.0
    _skipped: float = 0.0
    """Share of the work that checkpoints had done before: it took no time now."""
    _started: float = 0.0

    def take(self, notice: Notice) -> None:
        """Takes a notice."""
        match notice:
            case Begun():
                self.begun = notice
                self._started = self.now()
            case JobStarted():
                self.slots[notice.slot] = Running(notice.title, notice.run_ids, notice.updates, notice.update)
                self._skipped += self._work(notice.run_ids) * notice.update / notice.updates
            case JobProgressed() if notice.slot in self.slots:
                running = self.slots[notice.slot]
                running.update = notice.update
                running.examples_per_second = notice.examples_per_second
                running.accuracies = notice.test_accuracy
                running.last = (self.now(), notice.update)
                running.first = running.first or running.last
            case JobEnded():
                self.slots.pop(notice.slot, None)
                ended = {run_id: outcome for run_id, outcome in notice.outcomes.items() if outcome in FINAL}
                self.ended.update(ended.values())
                self._work_done += self._work(ended)
            case _:
                pass

    @property
    def runs_ended(self) -> int:
        """Runs that have ended since the start."""
        return sum(self.ended.values())

    @property
    def fraction(self) -> float:
        """Of all there is to train, as predicted."""
        running = sum(self._work(job.run_ids) * job.update / job.updates for job in self.slots.values())
        return min(1.0, self._work_done + running)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self.now() - self._started if self.begun else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before a fiftieth is done."""
        done = self.fraction - self._skipped
        if done < 0.02:
            return None
        jobs = [left for job in self.slots.values() if (left := job.seconds_left) is not None]
        return max(self.seconds * (1.0 - self.fraction) / done, *jobs, 0.0)

    def _work(self, run_ids: Mapping[str, Outcome] | tuple[str, ...]) -> float:
        return sum(self.begun.work.get(run_id, 0.0) for run_id in run_ids) if self.begun else 0.0
