"""LARS: layer-wise adaptive rate scaling (You, Gitman and Ginsburg 2017, arXiv:1708.03888)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gapbench.optimizers.base import FlatBuffers, Hyperparameters, Optimizer, Tile
from gapbench.optimizers.tensors import Tensors


class LARS(Optimizer):
    """SGD with momentum whose rate is scaled, for each tensor, by a trust coefficient times the norm of its weights over its gradient's.

    With weights w of a tensor, their gradient g and decay c:

        ratio = trust |w| / (|g| + c |w| + epsilon), or 1 where |w| or the denominator is zero
        v <- momentum v + learning_rate ratio (g + c w);  w <- w - v

    Options put the rate outside of the velocity and the decay outside of the ratio, clip the ratio (LARC) and choose the tensors that are
    scaled; others have the ratio 1.
    """

    state_names = ("momentum_buffer",)
    follows_device = True
    whole_rows = True

    def __init__(self, buffers: FlatBuffers, options: Mapping[str, Any], *, shared: bool) -> None:
        super().__init__(buffers, options, shared=shared)
        self._tensors = Tensors(buffers)
        self._adapted = self._tensors.chosen(options["adapt"])

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer`. Gradients stay as they are, for probes."""
        rate, decay, momentum = hyperparameters.learning_rate, hyperparameters.weight_decay, hyperparameters.momentum
        rate_inside, decay_inside = self.options["rate"] == "inside", self.options["decay"] == "inside"
        velocity, decayed = tile.state["momentum_buffer"], decay * tile.weights
        ratio = self._tensors.spread(self._ratios(tile, hyperparameters, decay_inside=decay_inside))
        step = ratio * (tile.gradients + decayed) if decay_inside else ratio * tile.gradients + decayed
        if rate_inside:
            step *= rate
        velocity.mul_(momentum).add_(step)
        moved = step + momentum * velocity if self.options["nesterov"] else velocity
        tile.weights.sub_(moved if rate_inside else rate * moved)

    def _ratios(self, tile: Tile, hyperparameters: Hyperparameters, *, decay_inside: bool) -> torch.Tensor:
        """Returns what each tensor's step is scaled by, [replica, tensor]."""
        tensors = self._tensors
        lengths, slopes = tensors.norms(tile.weights), tensors.norms(tile.gradients) + self.options["epsilon"]
        if decay_inside:
            slopes += tensors.first(torch.as_tensor(hyperparameters.weight_decay)) * lengths
        ratios = torch.where((lengths > 0) & (slopes > 0), self.options["trust_coefficient"] * lengths / slopes, 1.0)
        if self.options["clip_to_rate"]:
            ratios = (ratios / hyperparameters.learning_rate).clamp(max=1.0)
        return torch.where(self._adapted, ratios, 1.0)
