"""The critical batch size that one run's noise scale predicts.

At batch size B a unit of noise-free progress takes 1 + B_noise / B updates, so that an update counts 1 / (1 + B_noise / B) of one
(McCandlish et al. 2018, appendix D.1). The mean of the noise scale over progress is the prediction; its mean over updates, which is often
shown instead, counts the noisy end of training too much. The weights are right only if the learning rate is the best one for B at every
update: on a noisy quadratic with the best constant rate for each B the prediction is 2.5 to 36 times too large. So it is given for every
batch size that it was measured at, and counts only where that is within a factor of 4 of the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NEAR = 4.0
"""A prediction counts where the batch size that it was measured at is within this factor of it."""


@dataclass(frozen=True)
class Predicted:
    """What the noise scale of one run says about the critical batch size of a target."""

    batch_size: float
    """That the run trained at."""
    weighted: float
    """B_crit, the mean over noise-free progress."""
    naive: float
    """The mean over updates, for comparison."""
    smallest_steps: float
    """S_min: the progress itself, in noise-free updates."""

    @property
    def smallest_examples(self) -> float:
        """E_min."""
        return self.weighted * self.smallest_steps

    @property
    def counts(self) -> bool:
        """Whether the run trained near enough to what it predicts."""
        return self.weighted / NEAR <= self.batch_size <= self.weighted * NEAR


def predict(updates: Array, noise_scale: Array, batch_size: float, last: float) -> Predicted:
    """Returns the prediction from a noise curve, up to the update at which the target is reached.

    Args:
        updates: at which the noise scale is known, ascending, in updates.
        noise_scale: there, in examples, positive.
        batch_size: of the run, in examples.
        last: update at which the target is reached; before the first known value and after the last one, the nearest holds.
    """
    steps = np.arange(0.5, max(1.0, np.floor(last)))
    noise = np.exp(np.interp(np.log(steps), np.log(np.maximum(updates, 0.5)), np.log(noise_scale)))
    weights = 1.0 / (1.0 + noise / batch_size)
    return Predicted(batch_size, float((weights * noise).sum() / weights.sum()), float(noise.mean()), float(weights.sum()))


def by_batch_size(predictions: Sequence[Predicted]) -> list[tuple[float, float, float]]:
    """Returns batch size, and geometric means of the weighted and the naive prediction of its runs, by ascending batch size."""
    sizes: dict[float, list[Predicted]] = {}
    for one in predictions:
        sizes.setdefault(one.batch_size, []).append(one)
    return [(size, _mean([one.weighted for one in own]), _mean([one.naive for one in own])) for size, own in sorted(sizes.items())]


def _mean(values: Sequence[float]) -> float:
    return float(np.exp(np.log(values).mean()))
