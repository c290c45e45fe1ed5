"""How fast the weights walk: the slope of weight distance against the logarithm of the update count, over one window for every arm.

Hoffer et al. 2017, section 4, read a logarithmic law off their figure 2. A slope with its R² describes a curve and proves no law: points
of one trajectory are not independent, and other laws fit windows like these as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import Curve, Curves, Window
from gapbench.analysis.stats import Estimate, t_interval
from gapbench.suite.runspec import RunSpec

DOUBLINGS = 5
"""Length of the window: up to the first change of the learning rate, from this many halvings of the update count before it."""

MINIMUM_POINTS = 4
MEMORY_SHARE = 0.1
"""Weight decay bends a walk from about this share of its memory time (1 - momentum) / (learning rate * weight decay) on."""


@dataclass(frozen=True)
class FitWindow(Window):
    """Updates between which a slope is fitted."""

    clipped: bool
    """Whether training was too short (or still warming up) for the whole window."""
    decayed: bool
    """Whether weight decay bends the walk within it."""


@dataclass(frozen=True)
class LogFit:
    """Least squares fit of d = a + b ln(update)."""

    slope: float
    """b: distance for each factor e of updates."""
    r_squared: float


@dataclass(frozen=True)
class Walk:
    """The fits of a cell's ok runs, or the reason why there are none."""

    cell: Cell
    final: Estimate | None
    """Weight distance at the end of training."""
    window: FitWindow | None = None
    slope: Estimate | None = None
    r_squared: tuple[float, float] | None = None
    """Lowest and highest of the runs."""
    reason: str = ""


def window_of(spec: RunSpec) -> FitWindow:
    """Returns the window of a run: it ends at the first change of the learning rate or of the batch size, or with training."""
    start, batches = spec.phases[0].learning_rate_factor, spec.batches
    same = (start, spec.phases[0].batch_size_factor)
    changes = [phase.start for phase in spec.phases[1:] if (phase.learning_rate_factor, phase.batch_size_factor) != same]
    if spec.adaptive_batch is not None:  # from the first decision on, sizes and updates are not those of the plan
        changes.append(1.0 / spec.adaptive_batch.decisions)
    last = float(max(1, batches.updates_at(math.floor(min(changes, default=1.0) * batches.all_steps))))
    wanted = last / 2**DOUBLINGS
    warmup = spec.warmup * batches.all_steps
    first = max(wanted, 1.0, float(batches.updates_at(math.ceil(warmup))) if batches.grows else warmup)
    return FitWindow(first, last, clipped=first > wanted, decayed=last > MEMORY_SHARE * _memory(spec, start))


def log_fit(curve: Curve, window: Window) -> LogFit | None:
    """Returns the fit over a window, whose ends count; None with fewer than four points there."""
    inside = window.holds(curve.updates)
    if np.count_nonzero(inside) < MINIMUM_POINTS:
        return None
    x, y = np.log(curve.updates[inside]), curve.values[inside]
    slope, intercept = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    left = float(((y - intercept - slope * x) ** 2).sum())
    return LogFit(float(slope), 1.0 if spread == 0 else 1 - left / spread)


def walk_of(cell: Cell, curves: Curves, specs: Mapping[str, RunSpec]) -> Walk:
    """Returns the walk of a cell.

    Args:
        cell: with its runs.
        curves: of weight distance among others.
        specs: by run id, for the schedule; without one there is no window and so no fit.
    """
    distances = curves.of("weight_distance")
    final = cell.estimate("weight_distance")
    known = [run.run_id for run in cell.ok_runs if run.run_id in distances]
    if not known:
        return Walk(cell, final, reason="no ok run has measured it")
    if any(run_id not in specs for run_id in known):
        return Walk(cell, final, reason="the schedule is not known")
    window = window_of(specs[known[0]])
    fits = {run_id: fit for run_id in known if (fit := log_fit(distances[run_id], window))}
    if not fits:
        return Walk(cell, final, window, reason=f"fewer than {MINIMUM_POINTS} points before the first change of the rate")
    squares = [fit.r_squared for fit in fits.values()]
    slope = t_interval([*cell.sample({run_id: fit.slope for run_id, fit in fits.items()}).values()])
    return Walk(cell, final, window, slope, (min(squares), max(squares)))


def _memory(spec: RunSpec, factor: float) -> float:
    """Returns the memory time of weight decay in updates under (momentum) SGD; infinite without decay."""
    decay = spec.weight_decay if spec.phases[0].weight_decay is None else spec.phases[0].weight_decay
    momentum = spec.optimizer.option("momentum", 0.0) if spec.phases[0].momentum is None else spec.phases[0].momentum
    if decay == 0 or factor == 0 or spec.optimizer.name != "sgd":
        return float("inf")
    return float((1 - momentum) / (spec.learning_rate * factor * decay))
