"""Norm of the weights; beside the weight distance it tells growth from turning."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def weight_norm(state: TrainState) -> dict[str, Tensor]:
    """||w_t||_2 over all trainable parameters."""
    return {"weight_norm": state.weights.norm(dim=1)}
