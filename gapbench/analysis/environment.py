"""With what and on what runs were trained, and how long that took against the prediction, from columns of `runs.parquet`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import is_missing
from gapbench.analysis.formats import counted
from gapbench.core.events import Outcome

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "gapbench_version": "gapbench",
    "torch_version": "torch",
    "python_version": "Python",
    "git_commit": "git commit",
    "device": "device",
    "device_name": "device name",
    "precision": "precision",
    "threads": "threads",
    "slots": "jobs at a time",
    "replicas": "runs a stack",
    "program": "program",
}
"""Columns that say with what a run was trained, and what people call them."""

MACHINE = ("gapbench_version", "torch_version", "device", "device_name", "threads")
"""Columns whose mixture within one results directory is a warning. A commit may change while a suite trains and mean nothing."""

SHORT_COMMIT = 10


@dataclass(frozen=True)
class EnvironmentLine:
    """One property of the environment in two results."""

    name: str
    first: str
    """Its value; where runs differ, every value with the number of runs."""
    second: str

    @property
    def differs(self) -> bool:
        """Whether the two results have other values."""
        return self.first != self.second


def environment_lines(first: pd.DataFrame, second: pd.DataFrame) -> tuple[EnvironmentLine, ...]:
    """Returns every property of NAMES in two runs tables, of the runs that were trained.

    A property differs where its set of values does; how many runs have each is only said.
    """
    sides = [_trained(runs) for runs in (first, second)]
    lines = []
    for column, name in NAMES.items():
        own, other = (Counter(_word(column, row.get(column)) for row in rows) for rows in sides)
        lines.append(EnvironmentLine(name, _listed(own), _listed(own if own.keys() == other.keys() else other)))
    return tuple(lines)


def environment_notes(runs: pd.DataFrame) -> list[str]:
    """Returns a warning where the runs of one results directory were trained in several environments, as after merging; else nothing."""
    trained = _trained(runs)
    places = Counter(tuple(_word(column, row.get(column)) for column in MACHINE) for row in trained)
    if len(places) < 2:
        return []
    telling = [position for position in range(len(MACHINE)) if len({place[position] for place in places}) > 1]
    listed = [
        f"{', '.join(f'{NAMES[MACHINE[position]]} {place[position]}' for position in telling)} ({counted(number, 'run')})"
        for place, number in places.most_common()
    ]
    return [
        f"The runs come from {len(places)} environments: {'; '.join(listed)}. Their seconds cannot be compared, and the "
        "numbers of a run may differ from one environment to another."
    ]


def _trained(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns a row for every run id that was ever begun; where a run has several labels, the first."""
    rows: dict[str, dict[str, Any]] = {}
    for row in runs.to_dict("records"):
        if not is_missing(row.get("gapbench_version")) or not is_missing(row.get("device")):
            rows.setdefault(str(row["run_id"]), {str(name): value for name, value in row.items()})
    return list(rows.values())


def _listed(counts: Counter[str]) -> str:
    if len(counts) < 2:
        return next(iter(counts), "no run")
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{value} ({counted(number, 'run')})" for value, number in ordered)


def _word(column: str, value: Any) -> str:
    if is_missing(value) or value == "":
        return "not recorded"
    if column == "device":
        return str(value).partition(":")[0]  # which of several equal devices it was changes nothing
    if column == "git_commit":
        return str(value)[:SHORT_COMMIT]
    return str(int(value)) if column in ("threads", "slots", "replicas") else str(value)


# What runs cost: device seconds predicted before training against those that results record, by cell and in total.

BUCKETS = ("train_seconds", "evaluation_seconds", "other_seconds")


@dataclass(frozen=True)
class Price:
    """Of the runs of a cell, or of all, that ended ok and have both."""

    name: str
    runs: int
    predicted_seconds: float
    actual_seconds: float
    """Training, evaluation and everything else."""

    @property
    def ratio(self) -> float | None:
        """Actual by predicted; None where nothing was predicted."""
        return self.actual_seconds / self.predicted_seconds if self.predicted_seconds > 0.0 else None


def prices(runs: pd.DataFrame, run_ids: Collection[str] | None = None) -> tuple[Price, ...]:
    """Returns predicted and actual device seconds of every cell, in table order, and, as the last one, of all of them.

    A run that several cells share counts in each of them, and once in the total. Cells of which no run can be compared are left out.

    Args:
        runs: the run table.
        run_ids: only these; default: all.
    """
    if "predicted_seconds" not in runs:  # a table from before predictions were kept
        return (Price("all", 0, 0.0, 0.0),)
    both = runs[(runs.outcome == Outcome.OK.value) & runs.predicted_seconds.notna() & runs[list(BUCKETS)].notna().all(axis=1)]
    if run_ids is not None:
        both = both[both.run_id.isin(list(run_ids))]
    cells = [_price(str(cell), members) for (_, cell), members in both.groupby(["cell_order", "cell"])]
    return (*cells, _price("all", both.drop_duplicates("run_id")))


def _price(name: str, runs: pd.DataFrame) -> Price:
    actual = math.fsum(float(value) for bucket in BUCKETS for value in runs[bucket])
    return Price(name, len(runs), math.fsum(float(value) for value in runs.predicted_seconds), actual)
