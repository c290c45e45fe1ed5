"""Norm of the gradient of one batch. Its square's mean is |G|^2 + tr(Sigma) / batch size, so it depends on the batch size."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def gradient_norm(state: TrainState) -> dict[str, Tensor]:
    """Global L2 norm of the last batch's gradient, before clipping and without weight decay."""
    return {"gradient_norm": state.gradient_norm}
