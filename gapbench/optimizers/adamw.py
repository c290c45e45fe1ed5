"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from torch import Tensor
from torch.optim.adamw import adamw

from gapbench.optimizers.base import DeviceHyperparameters, Hyperparameters, Optimizer, Tile


class AdamW(Optimizer):
    """Adam's step of the gradient plus a decay of learning_rate * weight_decay * w that bypasses its moments."""

    state_names = ("exp_avg", "exp_avg_sq")
    counts_steps = True
    follows_device = True

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
            beta1=self._beta1,
            beta2=self._beta2,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )

    def move_rows(self, steps: Tensor, hyperparameters: DeviceHyperparameters) -> None:
        """Makes the same step of all rows."""
        weights, gradients = self.buffers.weights, self.buffers.gradients
        mean, square = self.state["exp_avg"], self.state["exp_avg_sq"]
        weights[:, : self.buffers.decayed].mul_(1.0 - hyperparameters.learning_rate * hyperparameters.weight_decay)
        mean.lerp_(gradients, 1.0 - self._beta1)
        square.mul_(self._beta2).addcmul_(gradients, gradients, value=1.0 - self._beta2)
        # In float64: 1 - beta^t of a beta near 1 would lose its digits.
        seen1, seen2 = (1.0 - beta ** steps.double() for beta in (self._beta1, self._beta2))
        deviation = square.sqrt().div_(seen2.sqrt().float()).add_(self._epsilon)
        weights.addcdiv_(mean * (-hyperparameters.learning_rate / seen1.float()), deviation)

    @property
    def _beta1(self) -> float:
        return float(self.options.get("beta1", 0.9))

    @property
    def _beta2(self) -> float:
        return float(self.options.get("beta2", 0.999))

    @property
    def _epsilon(self) -> float:
        return float(self.options.get("epsilon", 1e-8))
