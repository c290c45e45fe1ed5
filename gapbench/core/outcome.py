"""How a run can end: a closed set of outcomes."""

from __future__ import annotations

from enum import StrEnum


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
