"""Curves of `curves.parquet` by metric and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell, is_paired
from gapbench.analysis.stats import LEVEL, Array, Difference, difference, t_quantile

if TYPE_CHECKING:
    import pandas as pd


SKETCH = "displacement_sketch"
"""A metric of many numbers an update, one for each bucket of a random projection: only the analysis of diffusion reads it, and neither
figures nor exports show it."""


@dataclass(frozen=True)
class Curve:
    """One metric of one run against the update count, increasing, finite values only."""

    updates: Array
    values: Array
    """[point], or [point, bucket] of a metric of many numbers an update."""
    examples: Array | None = None
    """Seen after these updates; None: not known."""

    def at(self, updates: Array | float) -> Array:
        """Returns the values at those of its updates that are among `updates`."""
        return self.values[np.isin(self.updates, updates)]

    def value_at(self, update: float) -> float | None:
        """Returns the value at one of its updates; None at any other."""
        found = self.values[self.updates == update]
        return float(found[0]) if len(found) else None


def common_updates(curves: Sequence[Curve]) -> Array:
    """Returns the updates that all curves have, increasing; none of no curves."""
    shared = curves[0].updates if curves else np.array([])
    for curve in curves[1:]:
        shared = np.intersect1d(shared, curve.updates)
    return shared


@dataclass(frozen=True)
class Window:
    """Updates first .. last, both ends included."""

    first: float
    last: float

    @property
    def empty(self) -> bool:
        """Whether it ends before it begins."""
        return self.last < self.first

    def holds(self, updates: Array) -> npt.NDArray[np.bool_]:
        """Returns which updates lie in it."""
        return (updates >= self.first) & (updates <= self.last)

    def __str__(self) -> str:
        return f"{self.first:,} to {self.last:,}"


def logarithms(values: Array) -> Array:
    """Returns natural logarithms, of zero that of the smallest positive number."""
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float64).tiny)))


def at_equal_examples(curves: Sequence[Curve], *, logarithmic: bool = False) -> list[Curve]:
    """Returns curves of runs whose updates differ, at points that they share: values, and mean updates, at the same examples.

    Seeds whose batches follow the noise scale are evaluated at the same fractions of their examples, to within a batch, but after
    different updates. Values between two of a run's own moments are interpolated linearly in the examples.

    Args:
        curves: one per run; those without examples stay as they are.
        logarithmic: interpolate logarithms (values must then be positive).
    """
    known = [(curve, curve.examples) for curve in curves if curve.examples is not None and len(curve.examples)]
    if len(known) < len(curves) or len(curves) < 2:
        return list(curves)
    first, last = max(float(examples[0]) for _, examples in known), min(float(examples[-1]) for _, examples in known)
    shared = known[0][1]
    points = np.unique(np.clip(shared, first, last))
    updates = np.mean([np.interp(points, examples, curve.updates) for curve, examples in known], axis=0)
    found = []
    for curve, examples in known:
        between = np.interp(points, examples, logarithms(curve.values) if logarithmic else curve.values)
        found.append(Curve(updates, np.exp(between) if logarithmic else between, points))
    return found


@dataclass(frozen=True)
class Band:
    """Mean of several runs against the update count, with the pointwise t interval of the mean where there are two or more."""

    updates: Array
    mean: Array
    low: Array | None
    high: Array | None
    n: int


def band(curves: Sequence[Curve], *, logarithmic: bool = False) -> Band | None:
    """Returns the band of runs over the updates that all of them have; None where there is none.

    Args:
        curves: one per run.
        logarithmic: average logarithms, as befits losses (values must then be positive); the band stays positive.
    """
    updates = common_updates(curves)
    if len(updates) == 0:
        return None
    values = np.stack([curve.at(updates) for curve in curves])
    values, back = (logarithms(values), np.exp) if logarithmic else (values, np.asarray)
    mean, n = values.mean(axis=0), len(curves)
    if n == 1:
        return Band(updates, back(mean), None, None, n)
    half = t_quantile(LEVEL, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(updates, back(mean), back(mean - half), back(mean + half), n)


class Curves:
    """Looks up curves by metric. Holds the long table as it is and cuts out one metric at a time."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self._cut: dict[tuple[str, str | None], dict[str, Curve]] = {}

    def of(self, metric: str, layer: str = "") -> dict[str, Curve]:
        """Returns the curves of a metric by run id; `layer` is empty for the whole network. Runs without the metric are left out."""
        return self._read(metric, layer, _numbers)

    def vectors(self, metric: str) -> dict[str, Curve]:
        """Returns a metric of many numbers by run id, values [point, bucket]; incomplete updates are left out."""
        return self._read(metric, None, _vectors)

    def value(self, metric: str, run_id: str, update: float) -> float | None:
        """Returns a metric of a run after an update; None where it was not measured there."""
        curve = self.of(metric).get(run_id)
        return curve.value_at(update) if curve else None

    def _read(self, metric: str, layer: str | None, curve_of: Callable[[pd.DataFrame], Curve]) -> dict[str, Curve]:
        """Returns the curves of a metric, in one layer or (None) in all of them together, each cut out once."""
        table, key = self._table, (metric, layer)
        if key not in self._cut and not table.empty:
            rows = table[table["metric"] == metric]
            if layer is not None:
                rows = rows[rows["layer"].fillna("") == layer].sort_values(["run_id", "update"], kind="stable")
                rows = rows.drop_duplicates(["run_id", "update"], keep="last")
            found = {str(run_id): curve_of(group) for run_id, group in rows.groupby("run_id", observed=True)}
            self._cut[key] = {run_id: curve for run_id, curve in found.items() if len(curve.updates)}
        return self._cut.get(key, {})


def _numbers(rows: pd.DataFrame) -> Curve:
    values = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)
    finite = np.isfinite(values)
    examples = rows["examples"].to_numpy(dtype=np.float64)[finite] if "examples" in rows else None
    return Curve(rows["update"].to_numpy(dtype=np.float64)[finite], values[finite], examples)


def _vectors(rows: pd.DataFrame) -> Curve:
    wide = rows.assign(bucket=rows["layer"].astype("int64")).pivot_table(index="update", columns="bucket", values="value")
    whole = wide.dropna().sort_index()
    return Curve(whole.index.to_numpy(dtype=np.float64), whole.to_numpy(dtype=np.float64))


# The matched-loss gap: the difference in test accuracy where two cells first reach the same train loss, both in the last phase of their
# schedule (which at a constant rate is all of it). Before a drop of the rate an iterate generalizes worse at equal train loss than an
# annealed one, so across phases the difference would say which cell had annealed. Lengths that each anneal to their end answer the same
# question with schedules that drop: analysis/equal_loss.py.
#
# Curves are of recalibrated statistics (fixed examples, current weights), because running statistics lag behind the weights and
# make early measurements of large batches look worse than they are.

SMOOTHING = 0.1
"""Half-width of the smoothing window as a fraction of the updates reached, so that it lags every batch size alike."""

_SMALLEST_LOSS = 1e-12

DIFFERENT_PHASES = "different phases"
"""Why there is no gap where one cell passes the level in its last phase and the other before."""


@dataclass(frozen=True)
class MatchedLoss:
    """A matched-loss gap, or the reason why there is none."""

    gap_pp: Difference | None
    """Test accuracy of the reference cell minus that of this cell, percentage points."""
    train_loss: float | None
    """The common level: the lowest train loss that every seed of both cells reaches, in nats."""
    statistics: str
    """"recalibrated", or "running" where no recalibrated curves were recorded."""
    reason: str = ""


def matched_loss_gap(reference: Cell, cell: Cell, curves: Curves) -> MatchedLoss:
    """Returns the matched-loss gap of a cell against its reference cell, over their ok runs."""
    for one in (reference, cell):
        if not one.values:
            return MatchedLoss(None, None, "", f"the schedule of {one.name} was not recorded")
        if one.values.get("schedule"):  # the rate falls at every update
            return MatchedLoss(None, None, "", DIFFERENT_PHASES)
    for statistics, prefix in (("recalibrated", "recalibrated_"), ("running", "")):
        losses, accuracies = curves.of(f"{prefix}train_loss"), curves.of(f"{prefix}test_accuracy")
        paths = {
            run.run_id: loss_path(in_last_phase(losses[run.run_id], one), in_last_phase(accuracies[run.run_id], one))
            for one in (reference, cell)
            for run in one.ok_runs
            if run.run_id in losses and run.run_id in accuracies
        }
        if paths:
            return _gap(reference, cell, {run_id: path for run_id, path in paths.items() if path}, statistics)
    return MatchedLoss(None, None, "recalibrated", "no curves of train loss and test accuracy")


@dataclass(frozen=True)
class LossPath:
    """Smoothed log train loss and test accuracy of one run, in order of updates: time is left out, as only their relation counts."""

    log_loss: Array
    accuracy: Array

    def accuracy_at(self, log_level: float) -> float | None:
        """Returns the accuracy where the loss first reaches a level, linear in log loss between evaluations.

        None where it never does, and where it is below already at the first evaluation, so that the passage was not seen.
        """
        found = crossing(self.log_loss, log_level)
        if found is None:
            return None
        after, part = found
        if after == 0:
            return float(self.accuracy[0]) if self.log_loss[0] == log_level else None
        before = self.accuracy[after - 1]
        return float(before + part * (self.accuracy[after] - before))


def crossing(values: Array, level: float) -> tuple[int, float] | None:
    """Returns where values first are at or below a level: the position, and how far between the one before and it; None: nowhere.

    Position 0 says that they are below from the start, so that the passage was not seen.
    """
    below = np.flatnonzero(values <= level)
    if len(below) == 0:
        return None
    after = int(below[0])
    return after, float((values[after - 1] - level) / (values[after - 1] - values[after])) if after else 0.0


def last_phase(cell: Cell) -> float:
    """Returns the fraction of training at which the last phase of a cell's schedule starts: 0 at a constant rate."""
    phases: list[dict[str, float]] = cell.values.get("phases") or [{"start": 0.0}]
    return max(phases[-1]["start"], float(cell.values.get("warmup", 0.0)))


def in_last_phase(curve: Curve, cell: Cell) -> Curve:
    """Returns the part of a curve of a cell that lies in the last phase of its schedule."""
    progress = curve.updates / cell.planned_updates if curve.examples is None else curve.examples / cell.planned_examples
    late = progress > last_phase(cell)
    return Curve(curve.updates[late], curve.values[late], None if curve.examples is None else curve.examples[late])


def loss_path(loss: Curve, accuracy: Curve) -> LossPath | None:
    """Returns the smoothed path of one run over the updates that both curves have; None where there is none."""
    updates, at_loss, at_accuracy = np.intersect1d(loss.updates, accuracy.updates, return_indices=True)
    if len(updates) == 0:
        return None
    log_loss = np.log(np.maximum(loss.values[at_loss], _SMALLEST_LOSS))
    return LossPath(smooth(updates, log_loss), smooth(updates, accuracy.values[at_accuracy]))


def smooth(updates: Array, values: Array, half_width: float = SMOOTHING) -> Array:
    """Returns the mean of `values` over all evaluations between update (1 - half_width) t and (1 + half_width) t, for every t."""
    near = (updates[None, :] >= updates[:, None] * (1 - half_width)) & (updates[None, :] <= updates[:, None] * (1 + half_width))
    smoothed: Array = (near * values[None, :]).sum(axis=1) / near.sum(axis=1)
    return smoothed


def _gap(reference: Cell, cell: Cell, paths: dict[str, LossPath], statistics: str) -> MatchedLoss:
    samples = []
    for one in (reference, cell):
        if any(run.run_id not in paths for run in one.ok_runs):
            return MatchedLoss(
                None, None, statistics, f"a run of {one.name} has no curves of train loss and test accuracy in its last phase"
            )
    level = max(float(path.log_loss.min()) for path in paths.values())
    for one in (reference, cell):
        found = {run.run_id: paths[run.run_id].accuracy_at(level) for run in one.ok_runs}
        values = {run_id: 100 * accuracy for run_id, accuracy in found.items() if accuracy is not None}
        if len(values) < len(found):
            if any(last_phase(each) for each in (reference, cell)):
                return MatchedLoss(None, None, statistics, DIFFERENT_PHASES)
            reason = f"no common level: {one.name} is below train loss {np.exp(level):.2g} at its first evaluation"
            return MatchedLoss(None, None, statistics, reason)
        samples.append(one.sample(values))
    gap = difference(samples[0], samples[1], paired=is_paired(reference, cell))
    return MatchedLoss(gap, float(np.exp(level)), statistics, "" if gap else "no seed in common")
