"""LAMB: Adam's step, of each tensor as long as a rate times its weights (You et al. 2019, arXiv:1904.00962)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gapbench.optimizers.base import FlatBuffers, Hyperparameters, Optimizer, Tile
from gapbench.optimizers.tensors import Tensors


class LAMB(Optimizer):
    """Adam's step scaled, for each tensor, by the norm of its weights over its own.

    With weights w of a tensor, their gradient g, decay c and the moments m, s of g and g^2:

        r = m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + epsilon) + c w
        w <- w - learning_rate phi(|w|) / |r| r

    where phi clips to phi_min .. phi_max, and the ratio is 1 where either norm is zero. Options leave the moments uncorrected, take the
    decay out of the ratio (then it comes first, as AdamW's), limit the ratio (LAMBC) and choose the tensors that are scaled; others have
    the ratio 1.
    """

    state_names = ("exp_avg", "exp_avg_sq")
    counts_steps = True
    follows_device = True
    whole_rows = True

    def __init__(self, buffers: FlatBuffers, options: Mapping[str, Any], *, shared: bool) -> None:
        super().__init__(buffers, options, shared=shared)
        self._tensors = Tensors(buffers)
        self._adapted = self._tensors.chosen(options["adapt"])

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer`. Gradients stay as they are, for probes."""
        rate, decay, options = hyperparameters.learning_rate, hyperparameters.weight_decay, self.options
        first, second = tile.state["exp_avg"], tile.state["exp_avg_sq"]
        first.lerp_(tile.gradients, 1.0 - options["beta1"])
        second.mul_(options["beta2"]).addcmul_(tile.gradients, tile.gradients, value=1.0 - options["beta2"])
        # In float64: a beta near 1 in fp32 would leave 1 - beta few digits.
        left = [(1.0 - options[beta] ** tile.steps.double()).to(first.dtype) for beta in ("beta1", "beta2")]
        corrects = options["bias_correction"] == "moments"
        root = (second / left[1] if corrects else second).sqrt() + options["epsilon"]
        # Without epsilon, columns that never had a gradient (padding among them) stay where they are.
        step = (first / left[0] if corrects else first) / root.clamp_(min=torch.finfo(root.dtype).tiny)
        if options["decay"] == "inside":
            step += decay * tile.weights
        else:
            tile.weights.mul_(1.0 - rate * decay)
        if options["bias_correction"] == "rate":
            rate = rate / left[0]
        tile.weights.sub_(rate * self._tensors.spread(self._ratios(tile.weights, step)) * step)

    def _ratios(self, weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Returns what each tensor's step is scaled by, [replica, tensor]."""
        largest, limit = self.options["phi_max"] or None, self.options["ratio_max"] or None
        lengths, own = self._tensors.norms(weights), self._tensors.norms(step)
        ratios = torch.where((lengths > 0) & (own > 0), lengths.clamp(self.options["phi_min"], largest) / own, 1.0)
        return torch.where(self._adapted, ratios.clamp(max=limit) if limit else ratios, 1.0)
