"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from torch.optim.adamw import adamw

from gapbench.optimizers.base import Hyperparameters, Optimizer, Tile


class AdamW(Optimizer):
    """Adam's step of the gradient plus a decay of learning_rate * weight_decay * w that bypasses its moments."""

    state_names = ("exp_avg", "exp_avg_sq")

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """Makes torch's fused step; the betas are options and stay."""
        adamw(
            [tile.weights],
            [tile.gradients],
            [tile.state["exp_avg"]],
            [tile.state["exp_avg_sq"]],
            [],
            [tile.steps],
            fused=True,
            lr=hyperparameters.learning_rate,
            weight_decay=hyperparameters.weight_decay,
            beta1=float(self.options.get("beta1", 0.9)),
            beta2=float(self.options.get("beta2", 0.999)),
            eps=float(self.options.get("epsilon", 1e-8)),
            amsgrad=False,
            maximize=False,
        )
