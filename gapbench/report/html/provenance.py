"""With what and where the runs were trained, and what to be careful about: mixtures, missing seeds, failures, clipping, fits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gapbench.analysis import ArmsTable
from gapbench.analysis.cells import Panel
from gapbench.analysis.notes import clipped
from gapbench.analysis.walk import Walk

FACTS: Mapping[str, str] = {
    "gapbench_version": "gapbench",
    "torch_version": "torch",
    "python_version": "Python",
    "device_name": "device",
    "device": "device slot",
    "threads": "threads a run",
    "slots": "jobs at a time on a device, at most",
    "precision": "precision",
    "program": "program",
    "replicas": "runs in a stack",
    "git_commit": "commit",
    "git_dirty": "uncommitted changes",
}
"""Columns of runs.parquet and their names here."""

MIXED: Mapping[str, str] = {
    "gapbench_version": "versions of gapbench",
    "torch_version": "versions of torch",
    "python_version": "versions of Python",
    "device_name": "devices",
    "precision": "precisions",
    "git_commit": "commits",
}
"""Columns that should have one value, and what several of them are called."""


COMMIT_DIGITS = 12
_COMMIT = re.compile(r"[0-9a-f]{40}")


def facts(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns what the runs that began were trained with: name, and each value with its number of runs where there are several."""
    begun = [row for row in records if row.get("started_at") or row.get("updates") is not None]
    out = [(label, _values(begun, column)) for column, label in FACTS.items()]
    dates = sorted(str(row["started_at"]) for row in begun if row.get("started_at"))
    if dates:
        first, last = (date[:16].replace("T", " ") for date in (dates[0], dates[-1]))
        out.append(("started, UTC", first if first == last else f"{first} to {last}"))
    return out


def cautions(records: Sequence[Mapping[str, Any]], arms: ArmsTable, walks: Sequence[Walk]) -> list[str]:
    """Returns what a reader should know before trusting the numbers, the gravest first."""
    begun = [row for row in records if row.get("started_at") or row.get("updates") is not None]
    return [
        *_unfinished(arms.panels),
        *_uneven(arms.panels),
        *(_mixture(begun, column, what) for column, what in MIXED.items() if len(_distinct(begun, column)) > 1),
        *_dirty(begun),
        *(clipped(arms.rows)),
        *_running(arms),
        *_fits(walks),
    ]


def _unfinished(panels: Sequence[Panel]) -> list[str]:
    cells = [cell for panel in panels for cell in panel.cells if not cell.complete]
    return [f"{cell.name}: {cell.ok_of()}; the cell gets no verdict, and its mean is over what is left." for cell in cells]


def _uneven(panels: Sequence[Panel]) -> list[str]:
    out = []
    for panel in panels:
        seeds = {cell.name: {run.seed for run in cell.runs} for cell in panel.cells}
        all_seeds = set[int]().union(*seeds.values())
        lacking = {name: sorted(all_seeds - own) for name, own in seeds.items() if own != all_seeds}
        out += [
            f"{name} was not planned for seed {', '.join(map(str, missing))}, which other cells have." for name, missing in lacking.items()
        ]
        single = [cell.name for cell in panel.cells if len(cell.ok_runs) == 1]
        out += [f"One seed only, so no interval: {', '.join(single)}."] if single else []
    return out


def _mixture(rows: Sequence[Mapping[str, Any]], column: str, what: str) -> str:
    """Says a mixture, and whether it runs along the cells, so that a difference between cells may be one of machines."""
    cells = {row["cell"] for row in rows}
    within = {cell: _distinct([row for row in rows if row["cell"] == cell], column) for cell in cells}
    apart = any(found != within[next(iter(within))] for found in within.values())
    along = "cells differ in them, so a batch gap may hold a part of that" if apart else "every cell has the same mixture"
    return f"Several {what}: {_values(rows, column)}; {along}."


def _dirty(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    count = sum(row.get("git_dirty") is True for row in rows)
    if not count:
        return []
    return [f"{count} of {len(rows)} runs were trained from a checkout with uncommitted changes, so their commit does not name the code."]


def _running(arms: ArmsTable) -> list[str]:
    if not any(row.matched_loss and row.matched_loss.gap_pp and row.matched_loss.statistics == "running" for row in arms.rows):
        return []
    return ["Matched-loss gaps rest on running batch norm statistics, which flatter small batches early; recalibrated ones were not kept."]


def _fits(walks: Sequence[Walk]) -> list[str]:
    out = []
    clipped_ones = [walk.cell.name for walk in walks if walk.window and walk.window.clipped and walk.slope]
    if clipped_ones:
        out.append(f"Fits of weight distance over less than the whole window, training being too short: {', '.join(clipped_ones)}.")
    bent = [walk.cell.name for walk in walks if walk.window and walk.window.decayed and walk.slope]
    if bent:
        out.append(f"Fits of weight distance within the reach of weight decay, which bends the walk: {', '.join(bent)}.")
    return out


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[_text(row.get(column))] = counts.get(_text(row.get(column)), 0) + 1
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{text} ({count} run{'' if count == 1 else 's'})" for text, count in counts.items()) or "no run has begun"


def _distinct(rows: Sequence[Mapping[str, Any]], column: str) -> set[str]:
    return {_text(row.get(column)) for row in rows}


def _text(value: Any) -> str:
    if value is None or value == "":
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:COMMIT_DIGITS] if _COMMIT.fullmatch(str(value)) else str(value)
