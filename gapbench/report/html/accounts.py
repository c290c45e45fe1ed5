"""Outcomes and cost of a suite by cell: what ended how and why, device seconds by bucket, predicted against actual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapbench.analysis.cells import Panel
from gapbench.core.outcome import Outcome
from gapbench.store import Prediction

BUCKETS = ("train_seconds", "evaluation_seconds", "other_seconds")


_BASES = {"measured": "speeds measured on that machine", "rough": "rough guesses"}


@dataclass(frozen=True)
class Failure:
    """A run that did not end ok."""

    cell: str
    seed: int
    outcome: str
    reason: str
    run_id: str


@dataclass(frozen=True)
class CellCost:
    """Device seconds of a cell's runs (of stacks, their shares), each distinct run once."""

    cell: str
    runs: int
    """That have seconds."""
    seconds: tuple[float, float, float]
    """Training, evaluation and probes, everything else."""
    predicted: float | None
    """Of those of the runs that have both; None where no prediction was kept."""
    actual: float
    """Of the same runs."""
    compared: int
    """How many runs these are."""
    basis: str
    memory_mib: float | None
    """Peak of any of its runs' workers."""

    @property
    def total(self) -> float:
        """Seconds of all buckets."""
        return math.fsum(self.seconds)


def outcome_counts(panels: Sequence[Panel]) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Returns the outcomes that occur, and for every cell how many runs ended in each."""
    cells = [cell for panel in panels for cell in panel.cells]
    found = [outcome for outcome in Outcome if outcome is Outcome.OK or any(run.outcome is outcome for cell in cells for run in cell.runs)]
    return [outcome.value for outcome in found], [
        (cell.name, [sum(run.outcome is outcome for run in cell.runs) for outcome in found]) for cell in cells
    ]


def failures(records: Sequence[Mapping[str, Any]]) -> list[Failure]:
    """Returns what did not end ok, in table order, with the reasons given."""
    words = {Outcome.SKIPPED.value: "never started", Outcome.INTERRUPTED.value: "began and has not ended"}
    return [
        Failure(
            row["cell"], int(row["seed"]), row["outcome"], row.get("reason") or words.get(row["outcome"], "no reason kept"), row["run_id"]
        )
        for row in records
        if row["outcome"] != Outcome.OK.value
    ]


def costs(records: Sequence[Mapping[str, Any]], predictions: Mapping[str, Prediction]) -> list[CellCost]:
    """Returns the cost of every cell, in table order."""
    cells = list(dict.fromkeys(row["cell"] for row in records))
    return [_cost(cell, [row for row in records if row["cell"] == cell], predictions) for cell in cells]


def total_cost(records: Sequence[Mapping[str, Any]], predictions: Mapping[str, Prediction]) -> CellCost:
    """Returns the cost of all cells together; a run that several cells share counts once."""
    return _cost("all", list({row["run_id"]: row for row in records}.values()), predictions)


def duration(seconds: float) -> str:
    """Returns seconds as people say them: "0.8 s", "42 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _cost(cell: str, rows: Sequence[Mapping[str, Any]], predictions: Mapping[str, Prediction]) -> CellCost:
    timed = [row for row in rows if any(row.get(bucket) is not None for bucket in BUCKETS)]
    both = [row for row in timed if row["run_id"] in predictions and row["outcome"] == Outcome.OK.value]
    memory = [float(row["peak_memory_mib"]) for row in timed if row.get("peak_memory_mib") is not None]
    train, evaluation, other = (math.fsum(row.get(bucket) or 0.0 for row in timed) for bucket in BUCKETS)
    return CellCost(
        cell=cell,
        runs=len(timed),
        seconds=(train, evaluation, other),
        predicted=math.fsum(predictions[row["run_id"]].seconds for row in both) if both else None,
        actual=math.fsum(row.get(bucket) or 0.0 for row in both for bucket in BUCKETS),
        compared=len(both),
        basis=" and ".join(sorted({_BASES.get(basis, basis) for row in both if (basis := predictions[row["run_id"]].basis)})),
        memory_mib=max(memory, default=None),
    )
