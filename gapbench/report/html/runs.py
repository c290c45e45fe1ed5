"""The table of all runs: what a reader sorts and filters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapbench.report.html.accounts import BUCKETS


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
