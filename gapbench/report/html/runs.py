"""What the runs were: outcomes, cost, provenance and what to be careful about, and the table of all of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapbench import catalog
from gapbench.analysis import ArmsTable
from gapbench.analysis.cells import Panel
from gapbench.analysis.formats import counted
from gapbench.analysis.notes import clipped
from gapbench.analysis.walk import Walk
from gapbench.core.events import Outcome
from gapbench.report.scales import heading
from gapbench.store import Prediction

BUCKETS = ("train_seconds", "evaluation_seconds", "other_seconds")
"""Columns of device seconds: training, evaluation and probes, everything else."""
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
_BASES = {"measured": "speeds measured on that machine", "rough": "rough guesses"}


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


def sections(panels: Sequence[Panel], records: Sequence[Mapping[str, Any]], predictions: Mapping[str, Prediction]) -> dict[str, Any]:
    """Returns what the page says of outcomes, cost, provenance and single runs, by the template's names."""
    return {
        "outcomes": outcome_counts(panels),
        "failures": failures(records),
        "run_count": len({row["run_id"] for row in records}),
        "costs": costs(records, predictions),
        "total": total_cost(records, predictions),
        "duration": duration,
        "facts": facts(records),
        "runs": run_table(records),
        "run_outcomes": dict.fromkeys(row["outcome"] for row in records),
    }


def outcome_counts(panels: Sequence[Panel]) -> list[tuple[str, dict[str, int]]]:
    """Returns for every cell how many of its runs ended in each outcome that occurs anywhere, or ok."""
    counts = [(cell.name, Counter(run.outcome for run in cell.runs)) for panel in panels for cell in panel.cells]
    found = [outcome for outcome in Outcome if outcome is Outcome.OK or any(own[outcome] for _, own in counts)]
    return [(name, {outcome.value: own[outcome] for outcome in found}) for name, own in counts]


def failures(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the runs that did not end ok, in table order, each with the reason given or what its outcome means."""
    words = {Outcome.SKIPPED.value: "never started", Outcome.INTERRUPTED.value: "began and has not ended"}
    failed = [row for row in records if row["outcome"] != Outcome.OK.value]
    return [{**row, "reason": row.get("reason") or words.get(row["outcome"], "no reason kept")} for row in failed]


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
    """One column of the table of all runs."""

    label: str
    texts: tuple[str, ...]
    """One a run."""
    values: tuple[float, ...] | None = None
    """What numbers sort by, an empty field below all; None: words."""


def run_table(records: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Returns the table of all runs, which a reader sorts and filters; columns that say nothing anywhere are left out."""
    ghosts = [row.get("ghost_batch_size") for row in records]
    seconds = [[float(row[bucket]) for bucket in BUCKETS if row.get(bucket) is not None] for row in records]
    results = []
    for split, loss_form in (("test", ".4f"), ("train", ".3g")):
        for metric in catalog.metrics().values():
            form = loss_form if metric.decimals is None else f".{metric.decimals}f"
            results.append(_numbers(records, heading(metric, split), metric.column(split), form, metric.factor))
    columns = [
        _words(records, "cell"),
        _numbers(records, "seed", "seed", ".0f"),
        _words(records, "outcome"),
        _numbers(records, "batch", "batch_size", ".0f"),
        _words(records, "regime"),
        Column("ghost", tuple("off" if size is None else str(size) for size in ghosts), tuple(float(size or 0) for size in ghosts)),
        _numbers(records, "learning rate", "learning_rate", ".4g"),
        *results,
        _numbers(records, "weight distance", "weight_distance", ".2f"),
        _numbers(records, "updates", "updates", ".0f"),
        _numeric("seconds", [math.fsum(own) if own else None for own in seconds], ".1f"),
        _words(records, "device", "device_name"),
        _words(records, "reason"),
    ]
    return [column for column in columns if _telling(column)]


def _telling(column: Column) -> bool:
    texts = set(column.texts)
    return column.label in ("cell", "seed", "outcome") or (len(texts) > 1 if column.label == "device" else bool(texts - {""}))


def _words(records: Sequence[Mapping[str, Any]], label: str, name: str = "") -> Column:
    return Column(label, tuple(str(row.get(name or label) or "") for row in records))


def _numbers(records: Sequence[Mapping[str, Any]], label: str, name: str, form: str, factor: float = 1) -> Column:
    return _numeric(label, [None if row.get(name) is None else factor * float(row[name]) for row in records], form)


def _numeric(label: str, values: Sequence[float | None], form: str) -> Column:
    known = [value if value is not None and math.isfinite(value) else -math.inf for value in values]
    return Column(label, tuple("" if value == -math.inf else format(value, form) for value in known), tuple(known))


def facts(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns what the runs that began were trained with: name, and each value with its number of runs where there are several."""
    begun = _begun(records)
    out = [(label, _values(begun, column)) for column, label in FACTS.items()]
    out += [("plugin files", _values(begun, "plugins"))] if any(row.get("plugins") for row in begun) else []
    started = span(str(row["started_at"])[:16].replace("T", " ") for row in records if row.get("started_at"))
    return [*out, ("started, UTC", started)] if started else out


def span(dates: Iterable[str]) -> str:
    """Returns "2026-01-01", or "2026-01-01 to 2026-01-03"; empty where there is no date."""
    known = sorted(dates)
    if not known:
        return ""
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def _begun(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in records if row.get("started_at") or row.get("updates") is not None]


def cautions(records: Sequence[Mapping[str, Any]], arms: ArmsTable, walks: Sequence[Walk]) -> list[str]:
    """Returns what a reader should know before trusting the numbers, the gravest first."""
    begun = _begun(records)
    return [
        *_unfinished(arms.panels),
        *_uneven(arms.panels),
        *(_mixture(begun, column, what) for column, what in MIXED.items() if len(_distinct(begun, column)) > 1),
        *_dirty(begun),
        *_changed_plugins(begun),
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
        for name, own in seeds.items():
            if lacking := sorted(all_seeds - own):
                out.append(f"{name} was not planned for seed {', '.join(map(str, lacking))}, which other cells have.")
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
    return (
        []
        if not count
        else [f"{count} of {len(rows)} runs were trained from a checkout with uncommitted changes, so their commit does not name the code."]
    )


def _changed_plugins(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    files: dict[str, Counter[str]] = {}
    for row in rows:
        for part in str(row.get("plugins") or "").split(", "):
            name, _, text = part.rpartition(" ")
            files.setdefault(name, Counter())[text] += 1
    told = {name: [f"{counted(count, 'run')} with {text}" for text, count in found.items()] for name, found in files.items()}
    return [f"{name} was changed between runs: {', '.join(parts)}." for name, parts in told.items() if len(parts) > 1 and name]


def _running(arms: ArmsTable) -> list[str]:
    if not any(row.matched_loss and row.matched_loss.gap_pp and row.matched_loss.statistics == "running" for row in arms.rows):
        return []
    return ["Matched-loss gaps rest on running batch norm statistics, which flatter small batches early; recalibrated ones were not kept."]


def _fits(walks: Sequence[Walk]) -> list[str]:
    fitted = [(walk.cell.name, walk.window) for walk in walks if walk.window and walk.slope]
    found = {
        "over less than the whole window, training being too short": [name for name, window in fitted if window.clipped],
        "within the reach of weight decay, which bends the walk": [name for name, window in fitted if window.decayed],
    }
    return [f"Fits of weight distance {what}: {', '.join(names)}." for what, names in found.items() if names]


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    counts = Counter(_text(row.get(column)) for row in rows)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{text} ({counted(count, 'run')})" for text, count in counts.items()) or "no run has begun"


def _distinct(rows: Sequence[Mapping[str, Any]], column: str) -> set[str]:
    return {_text(row.get(column)) for row in rows}


def _text(value: Any) -> str:
    if value is None or value == "":
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:COMMIT_DIGITS] if _COMMIT.fullmatch(str(value)) else str(value)
