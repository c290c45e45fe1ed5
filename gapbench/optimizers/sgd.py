"""Stochastic gradient descent with momentum (Sutskever et al. 2013), optionally Nesterov's."""

from __future__ import annotations

from torch import Tensor

from gapbench.optimizers.base import Hyperparameters, Optimizer, Tile, plus


class SGD(Optimizer):
    """With d = g + weight_decay w: v <- momentum v + d; w <- w - learning_rate v, or by Nesterov w - learning_rate (d + momentum v).

    To the bits of torch's fused step on a CPU.
    """

    state_names = ("momentum_buffer",)
    follows_device = True
    elementwise = True

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer`. Gradients stay as they are, for probes."""
        weights, velocity, momentum = tile.weights, tile.state["momentum_buffer"], hyperparameters.momentum
        step = tile.gradients
        if _counts(hyperparameters.weight_decay):
            step = plus(step, weights, hyperparameters.weight_decay)
        if _counts(momentum):
            velocity.mul_(momentum).add_(step)
            step = plus(step, velocity, momentum) if self.options.get("nesterov", False) else velocity
        plus(weights, step, -hyperparameters.learning_rate, out=weights)


def _counts(factor: float | Tensor) -> bool:
    """Whether a factor may be other than 0; what only the device knows may."""
    return isinstance(factor, Tensor) or factor != 0.0
