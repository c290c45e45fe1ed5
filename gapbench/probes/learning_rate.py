"""The learning rate as it was applied."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def learning_rate(state: TrainState) -> dict[str, Tensor]:
    """Learning rate of the last update, with warmup and phases."""
    return {"learning_rate": state.learning_rate}
