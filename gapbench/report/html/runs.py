"""The table of all runs: what a reader sorts and filters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapbench.analysis.cells import Panel
from gapbench.core.events import Outcome
from gapbench.store import Prediction

# Outcomes and cost of a suite by cell: what ended how and why, device seconds by bucket, predicted against actual.

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


@dataclass(frozen=True)
class Column:
    """One column."""

    label: str
    numeric: bool = True


@dataclass(frozen=True)
class Entry:
    """One field of the table."""

    text: str
    value: float | str
    """What it sorts by."""


@dataclass(frozen=True)
class RunTable:
    """All runs, in table order."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    outcomes: tuple[str, ...]
    """That occur."""


def run_table(records: Sequence[Mapping[str, Any]]) -> RunTable:
    """Returns the table; columns that say nothing anywhere are left out."""
    columns = [*_COLUMNS]
    rows = [[_entry(row, column) for column in columns] for row in records]
    kept = [position for position, column in enumerate(columns) if column in (CELL, SEED, OUTCOME) or _telling(column, rows, position)]
    return RunTable(
        tuple(columns[position] for position in kept),
        tuple(tuple(row[position] for position in kept) for row in rows),
        tuple(dict.fromkeys(row["outcome"] for row in records)),
    )


CELL, BATCH, SEED, OUTCOME, REASON = (
    Column("cell", False),
    Column("batch"),
    Column("seed"),
    Column("outcome", False),
    Column("reason", False),
)
REGIME, GHOST, RATE = Column("regime", False), Column("ghost"), Column("learning rate")
SECONDS, DEVICE = Column("seconds"), Column("device", False)
_NUMBERS: Mapping[Column, tuple[str, str, float]] = {
    Column("test accuracy, %"): ("test_accuracy", ".2f", 100),
    Column("test loss"): ("test_loss", ".4f", 1),
    Column("train accuracy, %"): ("train_accuracy", ".2f", 100),
    Column("train loss"): ("train_loss", ".3g", 1),
    Column("weight distance"): ("weight_distance", ".2f", 1),
    Column("updates"): ("updates", ".0f", 1),
}
"""Column -> name in runs.parquet, format, factor."""
_COLUMNS = (CELL, SEED, OUTCOME, BATCH, REGIME, GHOST, RATE, *_NUMBERS, SECONDS, DEVICE, REASON)


def _telling(column: Column, rows: Sequence[Sequence[Entry]], position: int) -> bool:
    texts = {row[position].text for row in rows}
    return len(texts) > 1 if column == DEVICE else bool(texts - {""})


def _entry(row: Mapping[str, Any], column: Column) -> Entry:
    if column in _NUMBERS:
        name, how, factor = _NUMBERS[column]
        return _number(None if row.get(name) is None else factor * float(row[name]), how)
    if column == SECONDS:
        found = [float(row[bucket]) for bucket in BUCKETS if row.get(bucket) is not None]
        return _number(math.fsum(found) if found else None, ".1f")
    if column == GHOST:
        size = row.get("ghost_batch_size")
        return Entry("off", 0.0) if size is None else Entry(str(size), float(size))
    if column in (BATCH, SEED, RATE):
        name = {"batch": "batch_size"}.get(column.label, column.label.replace(" ", "_"))
        return _number(row.get(name), ".4g" if column == RATE else ".0f")
    text = row.get({"device": "device_name"}.get(column.label, column.label)) or ""
    return Entry(str(text), str(text))


def _number(value: Any, how: str) -> Entry:
    """An empty field sorts below every number."""
    return Entry("", -math.inf) if value is None or not math.isfinite(value) else Entry(format(float(value), how), float(value))
