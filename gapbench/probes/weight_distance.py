"""Weight distance, the quantity of Hoffer et al. 2017, section 3 and figure 2."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def weight_distance(state: TrainState) -> dict[str, Tensor]:
    """Distance of the weights from their initial values, ||w_t - w_0||_2: over all trainable parameters, and of each layer."""
    return {"weight_distance": state.displacement.norm(dim=1), "weight_distance/layer": state.by_layer(state.displacement)}
