"""How a run failed, for people: outcome, reason, the last lines of its log and where that log is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gapbench.core.outcome import FINAL, Outcome
from gapbench.store.log import last_lines
from gapbench.store.run_directory import RunDirectory, RunOutcome

FAILED = FINAL - {Outcome.OK}
"""Outcomes of runs that have ended without a result."""


@dataclass(frozen=True)
class Failure:
    """A run that ended and is not ok."""

    run_id: str
    outcome: Outcome
    reason: str
    log: Path
    last_lines: tuple[str, ...]


def read_failure(run: RunDirectory, stored: RunOutcome | None = None) -> Failure | None:
    """Returns how a run failed, or None where it is ok or has not ended.

    Args:
        run: its folder.
        stored: its outcome, where that was read already.
    """
    stored = stored or run.outcome()
    if stored is None or stored.outcome not in FAILED:
        return None
    return Failure(run.run_id, stored.outcome, stored.reason, run.log_path, last_lines(run.log_path))
