"""Random directions in the space of weights: uniform on the sphere, or filter-normalized (Li et al. 2018, section 4).

Drawn on the CPU by generators of their own, so that they are the same on every device and take no random number from training. All
runs of one architecture look along the same directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.core.hashing import derive_seed
from gapbench.layers.rows import row_norms
from gapbench.probes.state import TrainState


def parameter_count(state: TrainState) -> int:
    """Returns the number of trainable parameters D of one replica: columns that are no padding."""
    return sum(layer.stop - layer.start for layer in state.layers)


def column_mask(state: TrainState) -> Float[Tensor, " parameters"]:
    """Returns 1 for columns of parameters and 0 for padding."""
    mask = torch.zeros(state.weights.shape[1], device=state.weights.device)
    for layer in state.layers:
        mask[layer.start : layer.stop] = 1.0
    return mask


def uniform_directions(state: TrainState, purpose: str) -> Iterator[Float[Tensor, "replica parameters"]]:
    """Yields directions of length 1, uniform on the sphere of all parameters, the same for all replicas; without end."""
    mask = column_mask(state)
    number = 0
    while True:
        row = _normal(state, f"{purpose} {number}") * mask
        yield (row / row_norms(row[None])).expand_as(state.weights)
        number += 1


def filter_directions(state: TrainState, purpose: str) -> Iterator[Float[Tensor, "replica parameters"]]:
    """Yields directions of length 1 in which each filter has the share of length that it has in the weights; without end.

    A filter is what makes one output: a row of a matrix, a kernel over all its inputs. Tensors of fewer than two dimensions (biases,
    norm scales) do not move. Such directions are blind to rescalings of filters that batch norm undoes.
    """
    number = 0
    while True:
        row = _normal(state, f"{purpose} {number}").expand_as(state.weights)
        rows = torch.zeros_like(state.weights)
        for weights, draws, place in zip(filters(state, state.weights), filters(state, row), filters(state, rows), strict=True):
            place.copy_(draws / draws.norm(dim=2, keepdim=True) * weights.norm(dim=2, keepdim=True))
        yield rows / row_norms(rows)[:, None]
        number += 1


def filters(state: TrainState, rows: Float[Tensor, "replica parameters"]) -> list[Float[Tensor, "replica output inputs"]]:
    """Returns views of the columns of each tensor of two or more dimensions, one row a filter."""
    matrices = [layer for layer in state.layers if len(layer.shape) >= 2]
    return [rows[:, layer.start : layer.stop].view(len(rows), layer.shape[0], -1) for layer in matrices]


def slope_along(state: TrainState, gradient: Float[Tensor, "replica parameters"], *, by_filter: bool) -> Float[Tensor, " replica"]:
    """Returns the standard deviation of g . v over directions v: how the spread of the loss grows with distance, to first order.

    ||g|| / sqrt(D) for uniform directions; (sum_f ||w_f||^2 ||g_f||^2 / n_f)^(1/2) / (sum_f ||w_f||^2)^(1/2) for filter-normalized ones,
    f the filters and n_f their numbers of weights. float64.
    """
    gradient = gradient.double()
    if not by_filter:
        return row_norms(gradient) / math.sqrt(parameter_count(state))
    pairs = list(zip(filters(state, state.weights.double()), filters(state, gradient), strict=True))
    lengths = [weights.square().sum(dim=2) for weights, _ in pairs]
    spread = [length * slope.square().mean(dim=2) for length, (_, slope) in zip(lengths, pairs, strict=True)]
    variance: Tensor = torch.cat(spread, dim=1).sum(dim=1) / torch.cat(lengths, dim=1).sum(dim=1)
    return variance.sqrt()


def _normal(state: TrainState, purpose: str) -> Float[Tensor, " parameters"]:
    generator = torch.Generator().manual_seed(derive_seed(0, purpose))
    return torch.randn(state.weights.shape[1], generator=generator).to(state.weights.device)
