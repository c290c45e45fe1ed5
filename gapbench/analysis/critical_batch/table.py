"""The side table of a suite's targets: how many updates every cell takes to each, and which runs never get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.critical_batch.targets import Evaluations, Reached, Target
from gapbench.analysis.curves import Curves
from gapbench.analysis.intervals import Estimate, t_interval
from gapbench.analysis.side_tables import SideTable

COLUMNS = ("cell", "target", "batch", "learning rate", "reached", "updates", "examples", "not reached after")
NAMED = 6
"""Cells that a sentence names; of a grid of rates most never reach a target."""
NOTE = (
    "Updates: geometric mean over the seeds that reached the target, with the 95 % t interval of the logarithm. A passage is interpolated "
    "between two evaluations of the curve, smoothed over a fixed fraction of the updates. Seeds that did not reach it are left out of the "
    "mean, which is then too small: they took more updates than the last column says."
)


@dataclass(frozen=True)
class TargetRow:
    """One cell and one target."""

    panel: Panel
    cell: Cell
    target: Target
    reached: tuple[Reached, ...]
    """Of every ok run that was evaluated for it."""
    statistics: str
    """Norm statistics of the evaluations."""

    @property
    def steps(self) -> Estimate | None:
        """Geometric mean of the updates of the seeds that reached it, with its interval; None: none did."""
        logs = t_interval([float(np.log(one.steps)) for one in self.reached if one.steps])
        if logs is None:
            return None
        low, high = (None if bound is None else float(np.exp(bound)) for bound in (logs.low, logs.high))
        return Estimate(float(np.exp(logs.mean)), low, high, logs.n)

    @property
    def early(self) -> int:
        """Runs that were below it at their first evaluation, so that the passage was not seen."""
        return sum(one.early for one in self.reached)

    @property
    def censored(self) -> tuple[float, ...]:
        """Updates of the runs that did not reach it."""
        return tuple(one.trained for one in self.reached if one.steps is None and not one.early)


def target_table(panels: Sequence[Panel], curves: Curves, targets: Sequence[Target]) -> SideTable | None:
    """Returns the table of steps to targets, or None where no run was evaluated for one.

    Args:
        panels: with their cells.
        curves: `curves.parquet`.
        targets: in the order of the rows.
    """
    rows = [row for panel in panels for target in targets for row in _rows(panel, target, curves)]
    if not rows:
        return None
    titled = len(panels) > 1
    sentences = tuple(text for panel in panels for target in targets for text in _sentences(panel, target, rows, titled))
    return SideTable("targets", "Updates to the targets", COLUMNS, tuple(map(_texts, rows)), sentences, (NOTE,), tuple(map(_record, rows)))


def _rows(panel: Panel, target: Target, curves: Curves) -> Iterator[TargetRow]:
    evaluations = Evaluations(curves, target, [run for cell in panel.cells for run in cell.ok_runs])
    for cell in panel.cells:
        found = tuple(one for run in cell.ok_runs if (one := evaluations.reached(run.run_id)) is not None)
        if found:
            yield TargetRow(panel, cell, target, found, evaluations.statistics)


def _sentences(panel: Panel, target: Target, rows: Sequence[TargetRow], titled: bool) -> Iterator[str]:
    own = [row for row in rows if row.panel is panel and row.target == target]
    if not own:
        return
    start = f"{panel.title}: {target}" if titled else f"{str(target)[0].upper()}{str(target)[1:]}"
    whole = [(row, row.steps) for row in own if not row.censored]
    reached = [(row, steps) for row, steps in whole if steps is not None]
    if reached:
        row, steps = min(reached, key=lambda pair: pair[1].mean)
        cheap, fewest = min(reached, key=lambda pair: pair[1].mean * pair[0].cell.batch_size)
        yield (
            f"{start}: fewest updates by {row.cell.name} ({_count(steps.mean)}), fewest examples by {cheap.cell.name} "
            f"({_count(fewest.mean * cheap.cell.batch_size)}), of the cells whose seeds all reached it."
        )
    else:
        yield f"{start}: no cell reached it with all of its seeds."
    missing = [f"{row.cell.name} ({len(row.censored)} of {len(row.reached)} runs)" for row in own if row.censored]
    if missing:
        more = f" and {len(missing) - NAMED} more cells, which the table names" if len(missing) > NAMED else ""
        yield f"{start}: not reached by {', '.join(missing[:NAMED])}{more}."
    early = sum(row.early for row in own)
    if early:
        yield f"{start}: {early} run{'s were' if early > 1 else ' was'} below it at the first evaluation, so that the passage was not seen."


def _texts(row: TargetRow) -> tuple[str, ...]:
    steps = row.steps
    bounds = "" if steps is None or steps.low is None or steps.high is None else f" ({_count(steps.low)} to {_count(steps.high)})"
    return (
        row.cell.name,
        str(row.target),
        f"{row.cell.batch_size:,}",
        f"{row.cell.learning_rate:.3g}",
        f"{steps.n if steps else 0} of {len(row.reached)}",
        "" if steps is None else f"{_count(steps.mean)}{bounds}",
        "" if steps is None else _count(steps.mean * row.cell.batch_size),
        f"{_count(min(row.censored))} updates" if row.censored else "",
    )


def _record(row: TargetRow) -> dict[str, Any]:
    steps = row.steps
    spacings = [one.spacing for one in row.reached if one.spacing is not None]
    return {
        "dataset": row.panel.dataset,
        "model": row.panel.model,
        "recipe": row.panel.recipe,
        "cell": row.cell.name,
        "batch_size": row.cell.batch_size,
        "learning_rate": row.cell.learning_rate,
        "target": row.target.metric,
        "target_value": row.target.value,
        "runs": len(row.reached),
        "reached": steps.n if steps else 0,
        "below_at_first": row.early,
        "steps": steps.mean if steps else None,
        "steps_low": steps.low if steps else None,
        "steps_high": steps.high if steps else None,
        "steps_examples": steps.mean * row.cell.batch_size if steps else None,
        "not_reached_after": min(row.censored) if row.censored else None,
        "spacing": max(spacings, default=None),
        "statistics": row.statistics,
    }


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
