"""What is going on, as numbers: the state behind the live view and behind `gapbench status`, kept from notices."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gapbench.core.events import FINAL, Outcome
from gapbench.execution.forecast import Forecast
from gapbench.execution.notices import Begun, Ended, JobEnded, JobProgressed, JobStarted, Notice, Stopping


@dataclass
class Running:
    """One job in its slot."""

    title: str
    run_ids: tuple[str, ...]
    updates: int
    update: int
    examples_per_second: float = 0.0
    accuracies: tuple[float | None, ...] = ()
    training: bool = False
    """Whether it has begun to train: before that its worker starts, or reads data."""

    @property
    def accuracy(self) -> float | None:
        """Mean over the runs of the stack, of the last evaluation."""
        known = [value for value in self.accuracies if value is not None]
        return sum(known) / len(known) if known else None


@dataclass
class Tracker:
    """The whole execution."""

    now: Callable[[], float] = time.monotonic
    begun: Begun | None = None
    slots: dict[int, Running] = field(default_factory=dict)
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
        if isinstance(notice, Begun):
            self.begun, self._started = notice, now  # of several executions, one after another, the latest counts
            self.slots, self.ended, self.over, self._stopped = {}, Counter(), None, None
            self._forecast = Forecast(notice)
            self.predicted_seconds = self._forecast.seconds_left(now)
        elif self._forecast is not None:
            self._forecast.take(notice, now)
        match notice:
            case JobStarted():
                self.slots[notice.slot] = Running(notice.title, notice.run_ids, notice.updates, notice.update)
            case JobProgressed() if notice.slot in self.slots:
                running = self.slots[notice.slot]
                running.training = True
                running.update, running.updates = notice.update, notice.updates
                running.examples_per_second = notice.examples_per_second
                running.accuracies = notice.test_accuracy
            case JobEnded():
                self.slots.pop(notice.slot, None)
                self.ended.update(outcome for outcome in notice.outcomes.values() if outcome in FINAL)
            case Stopping():
                self.stopping = True
            case Ended():
                self.over, self._stopped = notice, now
            case _:
                pass

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
