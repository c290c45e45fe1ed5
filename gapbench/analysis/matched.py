"""The matched-loss gap: the difference in test accuracy where two cells first reach the same train loss.

It separates generalization from optimization: at equal budgets a large batch has often just not fitted the training set as far.
Curves are of recalibrated statistics (fixed examples, current weights), because running statistics lag behind the weights and
make early measurements of large batches look worse than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import Curve, Curves
from gapbench.analysis.differences import Difference, difference

SMOOTHING = 0.1
"""Half-width of the smoothing window as a fraction of the updates reached, so that it lags every batch size alike."""

_SMALLEST_LOSS = 1e-12


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
    runs = [run.run_id for run in (*reference.ok_runs, *cell.ok_runs)]
    for statistics, prefix in (("recalibrated", "recalibrated_"), ("running", "")):
        losses, accuracies = curves.of(f"{prefix}train_loss"), curves.of(f"{prefix}test_accuracy")
        paths = {run: path for run in runs if run in losses and run in accuracies and (path := loss_path(losses[run], accuracies[run]))}
        if paths:
            return _gap(reference, cell, paths, statistics)
    return MatchedLoss(None, None, "recalibrated", "no curves of train loss and test accuracy")


@dataclass(frozen=True)
class LossPath:
    """Smoothed log train loss and test accuracy of one run, in order of updates: time is left out, as only their relation counts."""

    log_loss: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    def accuracy_at(self, log_level: float) -> float | None:
        """Returns the accuracy where the loss first reaches a level, linear in log loss between evaluations.

        None where it never does, and where it is below already at the first evaluation, so that the passage was not seen.
        """
        below = np.flatnonzero(self.log_loss <= log_level)
        if len(below) == 0:
            return None
        after = int(below[0])
        if after == 0:
            return float(self.accuracy[0]) if self.log_loss[0] == log_level else None
        before = after - 1
        part = (self.log_loss[before] - log_level) / (self.log_loss[before] - self.log_loss[after])
        return float(self.accuracy[before] + part * (self.accuracy[after] - self.accuracy[before]))


def loss_path(loss: Curve, accuracy: Curve) -> LossPath | None:
    """Returns the smoothed path of one run over the updates that both curves have; None where there is none."""
    updates, at_loss, at_accuracy = np.intersect1d(loss.updates, accuracy.updates, return_indices=True)
    if len(updates) == 0:
        return None
    log_loss = np.log(np.maximum(loss.values[at_loss], _SMALLEST_LOSS))
    return LossPath(smooth(updates, log_loss), smooth(updates, accuracy.values[at_accuracy]))


def smooth(updates: npt.NDArray[np.float64], values: npt.NDArray[np.float64], half_width: float = SMOOTHING) -> npt.NDArray[np.float64]:
    """Returns the mean of `values` over all evaluations between update (1 - half_width) t and (1 + half_width) t, for every t."""
    near = (updates[None, :] >= updates[:, None] * (1 - half_width)) & (updates[None, :] <= updates[:, None] * (1 + half_width))
    smoothed: npt.NDArray[np.float64] = (near * values[None, :]).sum(axis=1) / near.sum(axis=1)
    return smoothed


def _gap(reference: Cell, cell: Cell, paths: dict[str, LossPath], statistics: str) -> MatchedLoss:
    samples = []
    for one in (reference, cell):
        if any(run.run_id not in paths for run in one.ok_runs):
            return MatchedLoss(None, None, statistics, f"a run of {one.name} has no curves of train loss and test accuracy")
    level = max(float(path.log_loss.min()) for path in paths.values())
    for one in (reference, cell):
        found = {run.run_id: paths[run.run_id].accuracy_at(level) for run in one.ok_runs}
        values = {run_id: 100 * accuracy for run_id, accuracy in found.items() if accuracy is not None}
        if len(values) < len(found):
            reason = f"no common level: {one.name} is below train loss {np.exp(level):.2g} at its first evaluation"
            return MatchedLoss(None, None, statistics, reason)
        samples.append(one.sample(values))
    gap = difference(samples[0], samples[1], paired=reference.split_drawn and cell.split_drawn)
    return MatchedLoss(gap, float(np.exp(level)), statistics, "" if gap else "no seed in common")
