"""Twins: a run whose initial weights are a tiny step away from another's, to see how far chaos alone drives two runs apart."""

from __future__ import annotations

import torch
from torch import nn

from gapbench.core.hashing import stream
from gapbench.layers.hashed_normals import normals


@torch.no_grad()
def perturb(model: nn.Module, share: float, seed: int) -> None:
    """Moves the parameters of `model` by `share` of their norm along a Gaussian direction that `seed` alone decides.

    The step is rounded to what the weights' own precision resolves, so that its length is `share` to within some percent where
    `share` is 1e-6, and no less than one unit in the last place of a weight where a weight moves at all.
    """
    parameters = [parameter for _, parameter in model.named_parameters()]
    words = stream(seed, "perturbation").at(0, torch.arange(sum(parameter.numel() for parameter in parameters)))
    direction = normals(words)
    norm = torch.cat([parameter.detach().double().flatten() for parameter in parameters]).norm()
    step = direction * (share * norm / direction.norm())
    for parameter, piece in zip(parameters, step.split([parameter.numel() for parameter in parameters]), strict=True):
        parameter.copy_(parameter.double() + piece.view(parameter.shape))
