"""Stochastic gradient descent with momentum (Sutskever et al. 2013), optionally Nesterov's."""

from __future__ import annotations

from typing import Any

import torch

from gapbench.optimizers.base import Hyperparameters, Optimizer


class SGD(Optimizer):
    """v <- momentum v + (g + weight_decay w); w <- w - learning_rate v. Nesterov: w <- w - learning_rate (g + weight_decay w + momentum v)."""

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
