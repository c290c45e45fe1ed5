"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gapbench.optimizers.base import Hyperparameters, Optimizer, Tile


class AdamW(Optimizer):
    """Adam's step of the gradient plus a decay of learning_rate * weight_decay * w that bypasses its moments."""

    state_names: tuple[str, ...] = ("exp_avg", "exp_avg_sq")
    counts_steps = True
    follows_device = True

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """Makes torch's fused step; the betas are options and stay. A decay that only the device knows stands before it."""
        rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay
        if isinstance(decay, Tensor):
            tile.weights.mul_(1.0 - rate * decay)
            decay = 0.0
        self._make_step(torch._fused_adamw_, tile, tile.gradients, rate, decay)

    def _make_step(self, fused: Callable[..., None], tile: Tile, gradients: Tensor, rate: float | Tensor, decay: float) -> None:
        fused(
            [tile.weights],
            [gradients],
            [tile.state["exp_avg"]],
            [tile.state["exp_avg_sq"]],
            [],
            [tile.steps],
            lr=rate,
            weight_decay=decay,
            beta1=self._beta1,
            beta2=self._beta2,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )

    @property
    def _beta1(self) -> float:
        return float(self.options.get("beta1", 0.9))

    @property
    def _beta2(self) -> float:
        return float(self.options.get("beta2", 0.999))

    @property
    def _epsilon(self) -> float:
        return float(self.options.get("epsilon", 1e-8))
