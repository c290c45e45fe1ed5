"""How often clipping acts: a threshold on the gradient's norm is a learning rate that depends on the batch size."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def clipping(state: TrainState) -> dict[str, Tensor]:
    """Share of all updates so far whose gradient was scaled down, a fraction."""
    return {"clipped_share": state.clipped_updates / max(state.update, 1)}
