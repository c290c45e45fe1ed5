"""Schedules as tables: learning rate, weight decay and momentum of every update, computed once, in float64, on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.optimizers.base import Hyperparameters
from gapbench.suite.batches import BatchTable, phase_starts
from gapbench.suite.regime import learning_rate_factor
from gapbench.suite.runspec import RunSpec


@dataclass(frozen=True)
class Schedule:
    """Hyperparameters by update, float64 [updates] each."""

    learning_rate: npt.NDArray[np.float64]
    weight_decay: npt.NDArray[np.float64]
    momentum: npt.NDArray[np.float64]

    def at(self, update: int) -> Hyperparameters:
        """Returns the hyperparameters of one update, counted from 0."""
        return Hyperparameters(float(self.learning_rate[update]), float(self.weight_decay[update]), float(self.momentum[update]))

    def same_as(self, other: Schedule) -> bool:
        """Whether two runs have equal hyperparameters at every update."""
        return all(
            np.array_equal(mine, theirs)
            for mine, theirs in (
                (self.learning_rate, other.learning_rate),
                (self.weight_decay, other.weight_decay),
                (self.momentum, other.momentum),
            )
        )


def schedule(spec: RunSpec, batches: BatchTable | None = None) -> Schedule:
    """Returns the table of a run: phases by fraction of updates, or a schedule by name, times linear warmup from `warmup_start` to 1.

    An update u of T belongs to the last phase whose start is <= u / T. Warmup over W = warmup * T updates multiplies by
    warmup_start + (1 - warmup_start) * (u + 1) / W, per update as in Goyal et al. 2017, section 2.2. Where the batch grows, u and T count
    examples in batches of the run's own size, so that every phase has the examples that it has where the batch does not grow.

    Where the batch size follows the noise scale, the rate of every update is scaled from the run's batch size to that of the update.

    Args:
        spec: of the run.
        batches: its table, where more of it is known than when it was planned.
    """
    batches = spec.batches if batches is None else batches
    total = batches.all_steps
    done = _steps(batches)
    starts = phase_starts([phase.start for phase in spec.phases], round(total))
    phase_of = np.maximum(np.searchsorted(starts, done[:-1] + 1e-9, side="right") - 1, 0)
    momentum = float(spec.optimizer.option("momentum", 0.0))
    factors = np.array([phase.learning_rate_factor for phase in spec.phases])
    decays = np.array([spec.weight_decay if phase.weight_decay is None else phase.weight_decay for phase in spec.phases])
    momenta = np.array([momentum if phase.momentum is None else phase.momentum for phase in spec.phases])
    learning_rate = spec.learning_rate * factors[phase_of]
    if spec.schedule != "phases":
        learning_rate *= _falling(spec.schedule, np.clip((done[:-1] / total - spec.warmup) / (1.0 - spec.warmup), 0.0, 1.0))
    if spec.adaptive_batch is not None:
        scaling = spec.adaptive_batch.learning_rate_scaling
        learning_rate *= [learning_rate_factor(scaling, size, spec.batch_size) for size in _sizes(batches)]
    warmup_updates = spec.warmup * total
    if warmup_updates > 0:
        learning_rate *= np.minimum(1.0, spec.warmup_start + (1.0 - spec.warmup_start) * done[1:] / warmup_updates)
    return Schedule(learning_rate, decays[phase_of], momenta[phase_of])


def extrapolation_steps(spec: RunSpec, rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns how far the run extrapolates at each update that does, float64 [updates].

    Args:
        spec: of the run.
        rates: its learning rate by update.
    """
    rule = spec.extrapolation
    if rule is None:
        return np.zeros(0)
    steps = rule.step * rates if rule.schedule == "rate" else np.full(len(rates), rule.step)
    return steps[: spec.extrapolated_updates]


POWER = 2.0
"""Of the polynomial schedule: You et al. 2017, arXiv:1708.03888, section 5."""


def _falling(name: str, done: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the factor of the rate where the share `done` of what follows warmup is done: 1 at 0, and 0 at 1.

    cosine: (1 + cos(pi done)) / 2 (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts); linear: 1 - done; polynomial:
    (1 - done)^2.
    """
    if name == "cosine":
        return np.asarray((1.0 + np.cos(np.pi * done)) / 2.0)
    return np.asarray((1.0 - done) ** (POWER if name == "polynomial" else 1.0))


def _steps(batches: BatchTable) -> npt.NDArray[np.float64]:
    """Returns how far training is before each update, and at the end, in updates of the run's own batch size: float64 [updates + 1]."""
    if not batches.grows:
        return np.arange(batches.updates + 1, dtype=np.float64)
    return np.concatenate([[0], np.cumsum(_sizes(batches))]) / batches.batch_size


def _sizes(batches: BatchTable) -> npt.NDArray[np.int64]:
    """Returns the examples of every update, int64 [updates]."""
    return np.concatenate([np.full(stretch.updates, stretch.size, dtype=np.int64) for stretch in batches.stretches])
