"""Stochastic gradient descent with momentum (Sutskever et al. 2013), optionally Nesterov's."""

from __future__ import annotations

from torch.optim.sgd import sgd

from gapbench.optimizers.base import Hyperparameters, Optimizer, Tile


class SGD(Optimizer):
    """With d = g + weight_decay w: v <- momentum v + d; w <- w - learning_rate v, or by Nesterov w - learning_rate (d + momentum v)."""

    state_names = ("momentum_buffer",)

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """Makes torch's fused step."""
        sgd(
            [tile.weights],
            [tile.gradients],
            [tile.state["momentum_buffer"]],
            fused=True,
            lr=hyperparameters.learning_rate,
            momentum=hyperparameters.momentum,
            weight_decay=hyperparameters.weight_decay,
            dampening=0.0,
            nesterov=bool(self.options.get("nesterov", False)),
            maximize=False,
        )
