"""Stochastic gradient descent with momentum (Sutskever et al. 2013), optionally Nesterov's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from gapbench.optimizers.base import DeviceHyperparameters, Hyperparameters, Optimizer, Tile


class SGD(Optimizer):
    """With d = g + weight_decay w: v <- momentum v + d; w <- w - learning_rate v, or by Nesterov w - learning_rate (d + momentum v)."""

    state_names = ("momentum_buffer",)
    follows_device = True

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

    def move_rows(self, steps: Tensor, hyperparameters: DeviceHyperparameters) -> None:
        """Makes the same step of all rows; gradients stay as they are, for probes."""
        weights, gradients, velocity = self.buffers.weights, self.buffers.gradients, self.state["momentum_buffer"]
        decaying = (slice(None), slice(0, self.buffers.decayed))
        velocity.mul_(hyperparameters.momentum).add_(gradients)
        velocity[decaying].addcmul_(weights[decaying], hyperparameters.weight_decay)
        step = velocity
        if self.options.get("nesterov", False):
            step = torch.addcmul(gradients, velocity, hyperparameters.momentum)
            step[decaying].addcmul_(weights[decaying], hyperparameters.weight_decay)
        weights.addcmul_(step, -hyperparameters.learning_rate)
