"""Lion: steps by the sign of a moving average of the gradient (Chen et al. 2023, arXiv:2302.06675)."""

from __future__ import annotations

from gapbench.optimizers.base import Hyperparameters, Optimizer, Tile, plus


class Lion(Optimizer):
    """w <- w - learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay w), then m <- beta2 m + (1 - beta2) g."""

    state_names = ("exp_avg",)
    follows_device = True
    elementwise = True

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer`."""
        rate, average = hyperparameters.learning_rate, tile.state["exp_avg"]
        direction = average.lerp(tile.gradients, 1.0 - self.options["beta1"]).sign_()
        average.lerp_(tile.gradients, 1.0 - self.options["beta2"])
        tile.weights.mul_(1.0 - rate * hyperparameters.weight_decay)
        plus(tile.weights, direction, -rate, out=tile.weights)
