"""How much of the initial weights is left: under weight decay alone it falls as exp(-t / memory)."""

from __future__ import annotations

import torch
from torch import Tensor

from gapbench.probes.state import TrainState


def weight_cosine(state: TrainState) -> dict[str, Tensor]:
    """Cosine of the angle between w_t and w_0, over all trainable parameters."""
    return {"weight_cosine": torch.cosine_similarity(state.weights, state.initial_weights, dim=1)}
