"""Clocks: what a walk may be measured against besides updates, and how far weight decay has forgotten the start. From a run's schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.suite.runspec import RunSpec

Array = npt.NDArray[np.float64]

CLOCKS = ("updates", "sum of rates", "sum of rates squared / batch size")
"""Under square-root scaling the last one runs alike for all batch sizes: the variance that gradient noise has put in."""


@dataclass(frozen=True, eq=False)
class Clock:
    """Of one run, by number of updates done."""

    batch_size: int
    rates: Array
    """Learning rate of every update."""
    decays: Array
    """Its weight decay divided by 1 - momentum, as far as it acts through the learning rate."""

    def at(self, clock: str, updates: Array) -> Array:
        """Returns what one of CLOCKS shows after so many updates."""
        if clock == "updates":
            return np.asarray(updates, dtype=np.float64)
        own = self.rates if clock == "sum of rates" else np.square(self.rates) / self.batch_size
        return np.asarray(np.cumsum(own)[updates.astype(int) - 1])

    def memory(self, updates: Array) -> Array:
        """Returns t / tau, the sum of learning rate * weight decay / (1 - momentum): weights decay as its negative exponential."""
        return np.asarray(np.cumsum(self.rates * self.decays)[updates.astype(int) - 1])

    def within_memory(self, share: float) -> int:
        """Returns after how many updates t / tau is last at most `share`."""
        return int(np.searchsorted(np.cumsum(self.rates * self.decays), share * (1 + 1e-9), side="right"))

    @property
    def first_drop(self) -> int:
        """After how many updates the learning rate first falls; all of them where it never does."""
        falls = np.flatnonzero(np.diff(self.rates) < -1e-12 * self.rates[:-1])
        return int(falls[0]) + 1 if len(falls) else len(self.rates)


def clock_of(spec: RunSpec) -> Clock:
    """Returns the clock of a run, update by update: phases by fraction of the updates, times linear warmup.

    Weight decay counts for SGD and for decoupled decay (AdamW, whose momentum does not multiply it).
    """
    updates = np.arange(spec.updates)
    starts = np.array([phase.start for phase in spec.phases]) * spec.updates
    phase = np.maximum(np.searchsorted(starts, updates + 1e-9, side="right") - 1, 0)  # as the engine's own table has it
    rates = spec.learning_rate * _by_phase([item.learning_rate_factor for item in spec.phases], phase)
    warmup = spec.warmup * spec.updates
    if warmup > 0:
        rates = rates * np.minimum(1.0, spec.warmup_start + (1 - spec.warmup_start) * (updates + 1) / warmup)
    momentum = float(spec.optimizer.option("momentum", 0.0))
    momenta = _by_phase([momentum if item.momentum is None else item.momentum for item in spec.phases], phase)
    decays = _by_phase([spec.weight_decay if item.weight_decay is None else item.weight_decay for item in spec.phases], phase)
    return Clock(spec.batch_size, rates, decays / (1 - momenta))


def decayed_walk_exponent(memory: Array) -> Array:
    """Returns the local exponent of the distance of a pure walk, d ~ sqrt(t), under weight decay after t / tau = `memory`.

    Its squared distance is proportional to 1 - exp(-2 t / tau): 0.45 at 0.1, 0.41 at 0.2, 0.16 at 1; 1/2 without decay.
    """
    x = 2 * np.asarray(memory, dtype=np.float64)
    return np.asarray(np.where(x < 1e-9, 0.5, 0.5 * x / np.expm1(np.maximum(x, 1e-9))))


def _by_phase(values: Sequence[float], phase: npt.NDArray[np.int64]) -> Array:
    return np.array(values, dtype=np.float64)[phase]
