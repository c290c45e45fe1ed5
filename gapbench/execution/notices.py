"""What the parent tells whoever watches: plain data, for the live view, for `status`, for notebooks, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from gapbench.catalog.entries import Metric
from gapbench.core.events import Outcome
from gapbench.execution.jobs import Demand, Slot
from gapbench.store import Failure


@dataclass(frozen=True)
class ExpectedJob:
    """What the cost model expects of a job."""

    run_ids: tuple[str, ...]
    seconds: float
    """Predicted from its first update to its end; where nothing can be predicted, in proportion to its examples."""
    share_left: float
    """Fraction of its updates that is still to do."""
    program: int
    """Equal for jobs that run the same program, and so at the same speed."""
    demand: Demand = field(default_factory=Demand)


@dataclass(frozen=True)
class Begun:
    """Training is about to begin."""

    suite: str
    results: Path
    runs: int
    """To train now."""
    done: int
    """Of the selected runs, those that already have an outcome."""
    failed: int
    """Of these, those that are not ok."""
    slots: tuple[Slot, ...]
    jobs: tuple[ExpectedJob, ...]
    """What the runs train in, in the order in which they begin."""
    seconds_before: float
    """Predicted for the runs that are done: their share of the whole."""
    basis: Literal["measured", "rough", "unknown"]
    """What all predictions together rest on: the weakest of them; unknown where there is none at all."""
    start_seconds: float = 0.0
    """That a worker took to start when it was last timed; 0: never."""
    command: str = ""
    """What a user calls to go on after an interruption; empty where training was called from Python."""

    @property
    def threads(self) -> int:
        """Of each slot."""
        return self.slots[0].threads

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, as people call them."""
        return tuple(dict.fromkeys(slot.device.name for slot in self.slots))


@dataclass(frozen=True)
class JobStarted:
    """A job was given to a worker."""

    slot: int
    title: str
    run_ids: tuple[str, ...]
    updates: int
    update: int
    """Done before, according to its checkpoint."""
    metric: Metric | None = None
    """That its runs are compared by."""


@dataclass(frozen=True)
class JobProgressed:
    """A sign of life of a job; the first one when it begins to train."""

    slot: int
    update: int
    updates: int
    examples_per_second: float
    """Of all runs of the stack together; 0 before the first update."""
    headline: tuple[float | None, ...]
    """Last evaluation on the test set, by run."""


@dataclass(frozen=True)
class JobEnded:
    """A job left its slot."""

    slot: int
    title: str
    outcomes: Mapping[str, Outcome]
    """By run; empty where it goes back to the queue."""
    reason: str = ""
    """Of the first run that is not ok."""
    headline: Mapping[str, float] = field(default_factory=dict)
    """On the test set, by run, where it is ok and was tested."""
    failures: tuple[Failure, ...] = ()
    """Of its runs, those that ended without a result."""
    metric: Metric | None = None
    """That `headline` is of."""


@dataclass(frozen=True)
class Stopping:
    """Somebody asked to stop."""

    at_once: bool
    """Asked twice: workers are killed, and their runs go on from their last checkpoint."""


@dataclass(frozen=True)
class Ended:
    """Training is over: nothing is left to do, or it was interrupted."""

    interrupted: bool


@dataclass(frozen=True)
class Said:
    """Something that people should read."""

    text: str


Notice: TypeAlias = Begun | JobStarted | JobProgressed | JobEnded | Stopping | Ended | Said
Observer: TypeAlias = Callable[[Notice], None]


def ignore(_notice: Notice) -> None:
    """Watches nothing."""
