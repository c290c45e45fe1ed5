"""Adam (Kingma and Ba 2015, arXiv:1412.6980), with weight decay added to the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from gapbench.optimizers.adamw import AdamW
from gapbench.optimizers.base import Hyperparameters, Tile, plus


class Adam(AdamW):
    """Adam's step of the gradient plus weight_decay * w, which therefore enters its moments."""

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """Makes torch's fused step. A decay that only the device knows is added before it."""
        gradients, decay = tile.gradients, hyperparameters.weight_decay
        if isinstance(decay, Tensor):
            gradients, decay = plus(gradients, tile.weights, decay), 0.0
        self._make_step(torch._fused_adam_, tile, gradients, hyperparameters.learning_rate, decay)
