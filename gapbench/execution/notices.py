"""What the parent tells whoever watches: plain data, for the live view, for notebooks, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gapbench.core.outcome import Outcome


@dataclass(frozen=True)
class Begun:
    """Training is about to begin."""

    runs: int
    """To train now."""
    done: int
    """Of the selected runs, those that already have an outcome."""
    slots: int
    threads: int
    devices: tuple[str, ...]
    work: Mapping[str, float]
    """By run: its share of all there is to train; sums to 1."""


@dataclass(frozen=True)
class JobStarted:
    """A job was given to a worker."""

    slot: int
    title: str
    run_ids: tuple[str, ...]
    updates: int
    update: int
    """Done before, according to its checkpoint."""


@dataclass(frozen=True)
class JobProgressed:
    """A sign of life of a job."""

    slot: int
    update: int
    updates: int
    examples_per_second: float
    """Of all runs of the stack together."""
    test_accuracy: tuple[float | None, ...]
    """Last evaluation, a fraction, by run."""


@dataclass(frozen=True)
class JobEnded:
    """A job left its slot."""

    slot: int
    title: str
    outcomes: Mapping[str, Outcome]
    reason: str = ""
    """Of the first run that is not ok."""
    test_accuracy: Mapping[str, float | None] | None = None
    """By run, where it is ok."""


@dataclass(frozen=True)
class Said:
    """Something that people should read."""

    text: str


Notice: TypeAlias = Begun | JobStarted | JobProgressed | JobEnded | Said
Observer: TypeAlias = Callable[[Notice], None]


def ignore(_notice: Notice) -> None:
    """Watches nothing."""
