"""Stochastic gradient descent with momentum (Sutskever et al. 2013), optionally Nesterov's."""

from __future__ import annotations

from typing import Any

import torch

from gapbench.optimizers.base import Hyperparameters, Optimizer


class SGD(Optimizer):
    """With d = g + weight_decay w: v <- momentum v + d; w <- w - learning_rate v, or by Nesterov w - learning_rate (d + momentum v)."""

    state_names = ("momentum_buffer",)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns torch's fused SGD."""
        momentum = float(self.options.get("momentum", 0.9))
        return torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=bool(self.options.get("nesterov", False)), fused=True)

    def set_group(self, group: dict[str, Any], hyperparameters: Hyperparameters) -> None:
        """Sets learning rate, momentum and weight decay."""
        group["lr"] = hyperparameters.learning_rate
        group["momentum"] = hyperparameters.momentum
        group["weight_decay"] = hyperparameters.weight_decay
