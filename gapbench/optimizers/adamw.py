"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from typing import Any

import torch

from gapbench.optimizers.base import Hyperparameters, Optimizer


class AdamW(Optimizer):
    """Adam's step of the gradient plus a decay of learning_rate * weight_decay * w that bypasses its moments."""

    state_names = ("exp_avg", "exp_avg_sq")
    counts_steps = True

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns torch's fused AdamW."""
        betas = (float(self.options.get("beta1", 0.9)), float(self.options.get("beta2", 0.999)))
        return torch.optim.AdamW(groups, lr=1e-3, betas=betas, eps=float(self.options.get("epsilon", 1e-8)), fused=True)

    def set_group(self, group: dict[str, Any], hyperparameters: Hyperparameters) -> None:
        """Sets learning rate and weight decay; the betas are options and stay."""
        group["lr"] = hyperparameters.learning_rate
        group["weight_decay"] = hyperparameters.weight_decay
