"""What the engine reports while it trains, through one `emit(event)`, and how a run can end. Plain data: no files, no console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias


class Outcome(StrEnum):
    """The outcome of a run. Numbers are only ever reported for `ok`; a diverged run keeps its curve up to where it diverged."""

    OK = "ok"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"
    """Was training when the suite stopped; the same command resumes it."""
    SKIPPED = "skipped"
    """Planned and never started; the same command trains it."""


FINAL = frozenset({Outcome.OK, Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.TIMEOUT, Outcome.CRASHED})
"""Outcomes that are written to disk; the others are the absence of one."""

RETRIED = frozenset({Outcome.OUT_OF_MEMORY, Outcome.TIMEOUT, Outcome.CRASHED})
"""Outcomes that `--retry` trains again."""


# `replica` is the position of a run within the job that trains (0 where there is only one).


@dataclass(frozen=True)
class Started:
    """Training begins (or goes on, at `update` > 0)."""

    update: int
    updates: int
    program: str
    """How an update is executed: "eager", ... ; recorded in the results."""
    setup_seconds: float


@dataclass(frozen=True)
class Progressed:
    """A sign of life, at most a few a second: `update` of `updates` are done."""

    update: int
    updates: int
    examples_per_second: float
    """Of all replicas together."""
    headline: tuple[float | None, ...] = ()
    """The task's headline metric on the test set, as last evaluated, by replica; None where there was no evaluation yet."""


@dataclass(frozen=True)
class Measured:
    """Values of one run at one update. `layer` is empty for the whole network."""

    replica: int
    update: int
    examples: int
    values: tuple[tuple[str, str, float], ...]
    """(metric, layer, value)."""


@dataclass(frozen=True)
class Snapshotted:
    """The state of one run after `update`: enough to go on bit by bit. Everything measured so far was emitted before."""

    replica: int
    update: int
    snapshot: Mapping[str, Any]
    """Tensors on the CPU and plain numbers; for torch.save."""


@dataclass(frozen=True)
class WeightsKept:
    """The weights of one run at a fraction of training that the suite names in `keep_weights`."""

    replica: int
    update: int
    fraction: float
    state_dict: Mapping[str, Any]
    """Named tensors of a plain, unstacked model, on the CPU."""


@dataclass(frozen=True)
class Finished:
    """A run has ended: ok, diverged, timeout or interrupted; crashes and lack of memory are seen from outside."""

    replica: int
    outcome: Outcome
    reason: str
    update: int
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Columns of `runs.parquet` that only the engine knows: test_accuracy, test_loss, train_seconds, ..."""
    test_correct: bytes = b""
    """One bit for each test example, right at the end or not, in the order of the test set (numpy.packbits)."""


Event: TypeAlias = Started | Progressed | Measured | Snapshotted | WeightsKept | Finished
