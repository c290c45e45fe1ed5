"""Steps to a target: when a run's loss or error first falls to a value, between two evaluations; or that it never did.

The curve is smoothed over a fixed fraction of the updates reached. A lag in examples would count more steps for small batches than for
large ones and so move the critical batch size up, one in updates would move it down; a fraction multiplies all steps alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapbench.analysis.cells import Run
from gapbench.analysis.curves import Curve, Curves
from gapbench.analysis.matched import smooth
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import unknown_name

LOSSES = ("train_loss", "validation_loss", "test_loss")
ERRORS = {"train_error": "train_accuracy", "validation_error": "validation_accuracy", "test_error": "test_accuracy"}
METRICS = (*LOSSES, *ERRORS)
"""What a target may be of. Errors are fractions: 1 - accuracy."""
RECALIBRATED = "recalibrated_"
"""Metrics of recalibrated norm statistics begin so; where a suite has them, running statistics would count the large batches' lag."""


class TargetError(GapbenchError):
    """A target that makes no sense."""


@dataclass(frozen=True)
class Target:
    """A value of a metric that falls while training."""

    metric: str
    """One of METRICS."""
    value: float

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise TargetError(unknown_name("target metric", self.metric, METRICS))
        if not 0.0 < self.value < (1.0 if self.metric in ERRORS else np.inf):
            bound = "between 0 and 1" if self.metric in ERRORS else "greater than 0"
            raise TargetError(f"the target {self.metric} must be {bound}, not {self.value:g}")

    def __str__(self) -> str:
        return f"{self.metric.replace('_', ' ')} {self.value:g}"


@dataclass(frozen=True)
class Reached:
    """When a run reached a target."""

    steps: float | None
    """Updates, interpolated between evaluations; None: not reached, or already below at the first evaluation."""
    trained: float
    """Updates up to the last evaluation: where it is censored."""
    spacing: float | None = None
    """Ratio of the updates of the two evaluations around the passage, less 1: what the interpolation goes over."""
    early: bool = False
    """Whether the first evaluation was below the target already, so that the passage was not seen."""


def parse_target(text: str) -> Target:
    """Returns the target that "train_loss=0.1" means.

    Raises:
        TargetError: it does not say one.
    """
    metric, separator, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if not separator or np.isnan(number):
        raise TargetError(f'a target is written METRIC=VALUE, such as train_loss=0.1, not "{text}"')
    return Target(metric.strip(), number)


def steps_to_target(curve: Curve, value: float, *, logarithmic: bool = False) -> Reached:
    """Returns when a curve first falls to `value`: linear against log updates between the two evaluations around it.

    Args:
        curve: of evaluations, in order.
        value: to reach.
        logarithmic: smooth and interpolate the logarithm of the values, as befits losses.
    """
    updates = curve.updates
    values = np.log(np.maximum(curve.values, np.finfo(np.float64).tiny)) if logarithmic else curve.values
    level = np.log(value) if logarithmic else value
    smoothed = smooth(updates, values)
    below = np.flatnonzero(smoothed <= level)
    trained = float(updates[-1])
    if len(below) == 0:
        return Reached(None, trained)
    after = int(below[0])
    if after == 0:
        return Reached(None, trained, early=True)
    before = after - 1
    part = (smoothed[before] - level) / (smoothed[before] - smoothed[after])
    steps = float(updates[before] * (updates[after] / updates[before]) ** part)
    return Reached(steps, trained, spacing=float(updates[after] / updates[before] - 1.0))


class Evaluations:
    """The curves of one target's metric, with the same norm statistics for all runs."""

    def __init__(self, curves: Curves, target: Target, runs: list[Run]) -> None:
        self.target = target
        name = ERRORS.get(target.metric, target.metric)
        recalibrated, running = curves.of(RECALIBRATED + name), curves.of(name)
        ids = [run.run_id for run in runs]
        self.statistics = "recalibrated" if ids and all(run_id in recalibrated for run_id in ids) else "running"
        """Norm statistics of the evaluations: recalibrated where every run has them."""
        self._curves = recalibrated if self.statistics == "recalibrated" else running

    def reached(self, run_id: str) -> Reached | None:
        """Returns when a run reached the target; None where the metric was not evaluated."""
        curve = self._curves.get(run_id)
        if curve is None:
            return None
        if self.target.metric in ERRORS:
            return steps_to_target(Curve(curve.updates, 1.0 - curve.values), self.target.value)
        return steps_to_target(curve, self.target.value, logarithmic=True)
