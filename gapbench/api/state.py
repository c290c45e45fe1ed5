"""How far a results directory is, from its files only: also while a suite trains in it elsewhere, and after it was killed."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gapbench.api.keeping import as_html, find
from gapbench.api.planning import by_cell
from gapbench.core.errors import StoreError
from gapbench.core.events import FINAL, RETRIED, Outcome
from gapbench.store import FAILED, Failure, ResultsDirectory, SeenSession, Session, SessionJob, read_failure, read_session, read_tables
from gapbench.suite.runspec import PlannedRun

if TYPE_CHECKING:
    import pandas as pd

State: TypeAlias = Literal["training", "stopping", "finishing", "stopped", "done"]

SILENT_SECONDS = 60.0
"""Training on another machine, whose lock may not be seen here, is taken for dead after so long without a sign of life."""

JSON_FORMAT = 1
"""Of `Status.as_json`. Fields may be added; a change of what is there raises it."""


@dataclass(frozen=True)
class FailedRun:
    """A run that ended without a result."""

    cell: str
    seed: int
    failure: Failure

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain JSON; the lines of the log stay in the log."""
        of, why = self.failure, self.failure.reason
        return {"run_id": of.run_id, "cell": self.cell, "seed": self.seed, "outcome": of.outcome, "reason": why, "log": str(of.log)}


@dataclass(frozen=True)
class RunStatus:
    """How far one run is."""

    run_id: str
    cell: str
    seed: int
    outcome: Outcome
    """Without an outcome: interrupted where it has begun, else skipped."""
    training: bool
    """Whether it trains at the moment."""
    update: int
    updates: int
    test_accuracy: float | None
    """At the end, or, while it trains, its last evaluation (the mean over its stack)."""

    @property
    def state(self) -> str:
        """Its outcome, or training, or waiting, begun or not."""
        return self.outcome.value if self.outcome in FINAL else "training" if self.training else "waiting"


@dataclass(frozen=True)
class CellStatus:
    """How far one cell is."""

    cell: str
    outcomes: Mapping[Outcome, int]
    """How many of its runs are how far."""
    training: int
    """How many train at the moment."""
    updates_done: int
    updates: int

    @property
    def done(self) -> int:
        """Runs that are ok."""
        return self.outcomes.get(Outcome.OK, 0)

    @property
    def failed(self) -> int:
        """Runs that ended without a result."""
        return sum(number for outcome, number in self.outcomes.items() if outcome in FAILED)

    @property
    def waiting(self) -> int:
        """Runs without an outcome that do not train at the moment; some may have begun."""
        return sum(self.outcomes.values()) - self.done - self.failed - self.training


@dataclass(frozen=True)
class Status:
    """How far a results directory is."""

    suite: str
    results: Path
    state: State
    """training; stopping (somebody asked it to); finishing (all has trained, tables and figures are being made); stopped (something is
    left and nobody is at work); done (every run has an outcome)."""
    lost: bool
    """Stopped without a word: killed, or its machine is gone."""
    cells: tuple[CellStatus, ...]
    runs: tuple[RunStatus, ...]
    failed: tuple[FailedRun, ...]
    old_attempts: int
    session: Session | None
    """What was last heard from training; None where nothing was."""
    silent_seconds: float | None
    """How long ago that was."""
    seconds_left: float | None
    """While it trains: by the clock. Stopped: how long the rest was predicted to take. None: not known."""

    @property
    def in_use(self) -> bool:
        """Whether a gapbench is working in the directory now."""
        return self.state in ("training", "stopping", "finishing")

    @property
    def retriable(self) -> int:
        """How many runs `--retry` would train again."""
        return sum(failed.failure.outcome in RETRIED for failed in self.failed)

    def frame(self) -> pd.DataFrame:
        """Returns one row a cell: how many of its runs have each outcome and train now, and its updates, made and planned."""
        import pandas as pd

        rows = [
            {
                "cell": cell.cell,
                **{outcome.value: cell.outcomes.get(outcome, 0) for outcome in Outcome},
                "training": cell.training,
                "updates_done": cell.updates_done,
                "updates": cell.updates,
            }
            for cell in self.cells
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        done, planned = (sum(getattr(cell, name) for cell in self.cells) for name in ("updates_done", "updates"))
        return f"Status({self.suite!r}: {done:,} of {planned:,} updates, {self.state})"

    def _repr_html_(self) -> str:
        reasons = [f"{failed.cell} seed {failed.seed}: {failed.failure.outcome.value}, {failed.failure.reason}" for failed in self.failed]
        return as_html(repr(self), self.frame(), reasons)

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain JSON for scripts; `format` is raised when the meaning of a field changes."""
        session = self.session
        return {
            "format": JSON_FORMAT,
            "suite": self.suite,
            "results": str(self.results),
            "state": self.state,
            "lost": self.lost,
            "runs": len(self.runs),
            "done": sum(run.outcome is Outcome.OK for run in self.runs),
            "failed": len(self.failed),
            "training": sum(run.training for run in self.runs),
            "waiting": sum(run.outcome not in FINAL and not run.training for run in self.runs),
            "seconds_left": self.seconds_left,
            "seconds_left_rough": session.rough if session is not None and self.seconds_left is not None else None,
            "silent_seconds": self.silent_seconds,
            "host": session.host if session else None,
            "command": session.command if session else None,
            "old_attempts": self.old_attempts,
            "cells": [{**asdict(cell), "done": cell.done, "failed": cell.failed, "waiting": cell.waiting} for cell in self.cells],
            "run_list": [{**asdict(run), "state": run.state} for run in self.runs],
            "failed_list": [failed.as_json() for failed in self.failed],
        }


def status(results: str | Path | None = None) -> Status:
    """Returns how far a results directory is, also while a suite trains in it; reads files only.

    Raises:
        StoreError: there is no such directory, or nothing was planned in it.
    """
    path = find(results)
    if path.is_file():
        raise StoreError(f"{path}: is a bundle, a copy of what was done; `gapbench report {path}` shows what is in it")
    directory = ResultsDirectory.open_existing(path)
    # Who is at work is looked at first: what ends in between then counts as done, and not as stopped.
    seen = read_session(directory.path)
    working = _at_work(directory, seen)
    planned = directory.plan()
    if directory.is_bundle and directory.runs_table_path.is_file():
        runs, failures = _read_table(directory, planned.runs)
    else:
        runs, failures = _read_runs(directory, planned.runs, seen.session if seen is not None and working else None)
    left = any(run.outcome not in FINAL for run in runs.values())
    state = _state(working, left, seen)
    return Status(
        suite=planned.suite,
        results=directory.path,
        state=state,
        lost=state == "stopped" and seen is not None and seen.session.state in ("training", "stopping"),
        cells=tuple(_cell(cell, [runs[member.run_id] for member in members]) for cell, members in by_cell(planned.runs).items()),
        runs=tuple(runs.values()),
        failed=tuple(FailedRun(run.cell, run.seed, failures[run.run_id]) for run in runs.values() if run.run_id in failures),
        old_attempts=len(directory.attempts()),
        session=seen.session if seen else None,
        silent_seconds=seen.age_seconds if seen else None,
        seconds_left=_seconds_left(state, seen),
    )


def failed_runs(directory: ResultsDirectory, planned: Sequence[PlannedRun], selected: Collection[str]) -> tuple[FailedRun, ...]:
    """Returns the selected runs that ended without a result, in the order of the plan."""
    found = []
    for run_id, member in _first_labels(planned).items():
        failure = read_failure(directory.run(run_id)) if run_id in selected else None
        if failure is not None:
            found.append(FailedRun(member.labels.cell, member.spec.seed, failure))
    return tuple(found)


def _first_labels(planned: Sequence[PlannedRun]) -> dict[str, PlannedRun]:
    """Returns every distinct run with the first of its labels, cells in table order."""
    first: dict[str, PlannedRun] = {}
    for members in by_cell(planned).values():
        for member in members:
            first.setdefault(member.run_id, member)
    return first


def _read_runs(
    directory: ResultsDirectory, planned: Sequence[PlannedRun], session: Session | None
) -> tuple[dict[str, RunStatus], dict[str, Failure]]:
    """Returns how far every distinct run is, and how those failed that did. Each file is read once: it may change at any moment.

    A stack's checkpoint stands in the folder of its first run and counts for all of them, and so does what the session knows.
    """
    training = {run_id: job for job in (session.jobs if session else ()) for run_id in job.run_ids}
    first = _first_labels(planned)
    outcomes = {run_id: directory.run(run_id).outcome() for run_id in first}
    checkpointed: dict[str, int] = {}
    for run_id, stored in outcomes.items():
        header = directory.run(run_id).checkpoint() if stored is None else None
        for member_id in header.stack if header else ():
            checkpointed[member_id] = max(checkpointed.get(member_id, 0), header.update if header else 0)
    runs: dict[str, RunStatus] = {}
    failures: dict[str, Failure] = {}
    for run_id, member in first.items():
        run, stored, job = directory.run(run_id), outcomes[run_id], training.get(run_id)
        if stored is not None:
            runs[run_id] = _run(member, stored.outcome, stored.update, stored.summary.get("test_accuracy"))
            failure = read_failure(run, stored)
            if failure is not None:
                failures[run_id] = failure
            continue
        update = max(checkpointed.get(run_id, 0), run.last_event() or 0, job.update if job else 0)
        outcome = Outcome.INTERRUPTED if update or run.has_begun() else Outcome.SKIPPED
        runs[run_id] = _run(member, outcome, update, job.test_accuracy if job else None, job)
    return runs, failures


def _read_table(directory: ResultsDirectory, planned: Sequence[PlannedRun]) -> tuple[dict[str, RunStatus], dict[str, Failure]]:
    """Returns the same of results that came without the folders of their runs, from their table."""
    rows = {str(row["run_id"]): row for row in read_tables(directory.path).runs.to_dict("records")}
    runs: dict[str, RunStatus] = {}
    failures: dict[str, Failure] = {}
    for run_id, member in _first_labels(planned).items():
        row = rows.get(run_id, {"outcome": Outcome.SKIPPED, "updates": 0})
        outcome = Outcome(row["outcome"])
        if outcome in FAILED:
            failures[run_id] = Failure(run_id, outcome, str(row["reason"]), directory.run(run_id).log_path, ())
        runs[run_id] = _run(member, outcome, int(_number(row["updates"]) or 0), row.get("test_accuracy"))
    return runs, failures


def _run(member: PlannedRun, outcome: Outcome, update: int, accuracy: Any, job: SessionJob | None = None) -> RunStatus:
    """Returns how far a run is; its updates are as planned or, where its batch follows the noise scale, as far as is known.

    Args:
        member: the run.
        outcome: without one, interrupted or skipped.
        update: how many it has made.
        accuracy: what is recorded of it; counts once the run is ok, or while it trains.
        job: what it trains in at the moment.
    """
    updates = member.spec.updates
    if member.spec.adaptive_batch is not None:
        updates = update if outcome is Outcome.OK else max(update, (job.updates if job else 0) or updates)
    return RunStatus(
        run_id=member.run_id,
        cell=member.labels.cell,
        seed=member.spec.seed,
        outcome=outcome,
        training=job is not None,
        update=min(update, updates),
        updates=updates,
        test_accuracy=_number(accuracy) if outcome is Outcome.OK or job is not None else None,
    )


def _number(value: Any) -> float | None:
    """Returns a number of a table or of JSON; None for what is none, such as the table's mark of a missing value."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _cell(name: str, runs: Sequence[RunStatus]) -> CellStatus:
    return CellStatus(
        cell=name,
        outcomes=dict(Counter(run.outcome for run in runs)),
        training=sum(run.training for run in runs),
        updates_done=sum(run.update for run in runs),
        updates=sum(run.updates for run in runs),
    )


def _at_work(directory: ResultsDirectory, seen: SeenSession | None) -> bool:
    """Whether somebody is at work: holds the lock or, on another machine whose lock is not seen here, has just given a sign of life."""
    if directory.in_use():
        return True
    if seen is None or seen.session.host == platform.node():
        return False
    return seen.session.state in ("training", "stopping") and seen.age_seconds < SILENT_SECONDS


def _state(working: bool, left: bool, seen: SeenSession | None) -> State:
    if not working:
        return "stopped" if left else "done"
    if not left or (seen is not None and seen.session.state in ("ended", "interrupted")):
        return "finishing"
    return "stopping" if seen is not None and seen.session.state == "stopping" else "training"


def _seconds_left(state: State, seen: SeenSession | None) -> float | None:
    """Returns the time left that training itself has worked out; while it trains, time has passed since it wrote that."""
    if seen is None or seen.session.seconds_left is None:
        return 0.0 if state == "done" else None
    if state in ("training", "stopping"):
        return max(0.0, seen.session.seconds_left - seen.age_seconds)
    return seen.session.seconds_left if state == "stopped" else 0.0
