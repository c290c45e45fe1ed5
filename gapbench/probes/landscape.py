"""The landscape experiment of Hoffer et al. 2017, appendix B: how the loss varies with the distance from the weights.

The paper reads a random potential off the fact that the standard deviation of the loss grows linearly with distance. Any differentiable
loss does that to first order, with slope ||g|| / sqrt(D); so the slope that the gradient predicts is measured at the same weights on
the same examples, and the second-order term with it. What the experiment says is how far both hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import derive_seed
from gapbench.layers.rows import row_norms
from gapbench.probes.directions import filter_directions, slope_along, uniform_directions
from gapbench.probes.state import ObjectiveBatch, TrainState

SHARE_OF_NORM = 0.15
"""Largest distance where none is given, in norms of the weights: the paper's 10 at a network whose weights have norm 69."""
ROUNDINGS = 8
"""Losses that the rounding floor is the standard deviation of."""


def landscape(
    state: TrainState,
    *,
    directions: int = 200,
    largest_distance: float = 0.0,
    examples: int = 2048,
    norm: Literal["train", "running"] = "train",
    curvature_directions: int = 16,
) -> dict[str, Tensor]:
    """Loss at random distances along random directions, uniform and filter-normalized, and what gradient and curvature predict of it.

    Each direction is used once, at a distance drawn uniformly from [0, largest_distance] (0: 0.15 norms of the weights). The loss is
    over a fixed, unaugmented subset of the training set.
    """
    if min(directions, curvature_directions) < 2:
        raise TrainingError("landscape needs at least 2 directions and 2 curvature directions: it measures a spread")
    objective = state.objective
    batch = objective.fixed(examples, norm=norm)
    reach = row_norms(state.weights) * SHARE_OF_NORM
    if largest_distance:
        reach = torch.full_like(reach, largest_distance)
    generator = torch.Generator().manual_seed(derive_seed(0, "landscape distance"))
    shares = torch.rand(directions, generator=generator).to(reach.device)
    distances = reach[:, None] * shares
    gradient = objective.gradient(batch)
    values = {
        "landscape_center": objective.loss(batch),
        "landscape_floor": _rounding_floor(state, batch),
        "landscape_gradient_norm": row_norms(gradient.double()),
        "landscape_distance/bucket": distances,
    }
    kinds: dict[str, Iterator[Tensor]] = {
        "landscape": uniform_directions(state, "landscape direction"),
        "landscape_filter": filter_directions(state, "landscape direction"),
    }
    for name, drawn in kinds.items():
        losses = [objective.loss(batch, state.weights + distances[:, step, None] * next(drawn)) for step in range(directions)]
        values[f"{name}_loss/bucket"] = torch.stack(losses, dim=1)
        values[f"{name}_slope"] = slope_along(state, gradient, by_filter=name == "landscape_filter")
        along = [next(drawn) for _ in range(curvature_directions)]
        curvature = torch.stack([(way * objective.hessian_product(batch, way)).double().sum(dim=1) for way in along])
        values[f"{name}_curvature"] = curvature.mean(dim=0)
        values[f"{name}_curvature_error"] = curvature.std(dim=0) / curvature_directions**0.5
    return values


def _rounding_floor(state: TrainState, batch: ObjectiveBatch) -> Float[Tensor, " replica"]:
    """Returns the standard deviation of the loss over roundings of the weights: below it, a spread of losses says nothing.

    A weight moves to its neighbour in fp32, up or down, with probability 1/24 each: the variance of rounding, 1/12 of a squared unit.
    """
    objective = state.objective
    generator = torch.Generator().manual_seed(derive_seed(0, "landscape rounding"))
    up, down = (torch.full_like(state.weights, sign * torch.inf) for sign in (1, -1))
    losses = []
    for _ in range(ROUNDINGS):
        draws = torch.rand(state.weights.shape[1], generator=generator).to(state.weights.device)
        moved = torch.where(draws < 1 / 24, torch.nextafter(state.weights, up), state.weights)
        moved = torch.where(draws > 23 / 24, torch.nextafter(state.weights, down), moved)
        losses.append(objective.loss(batch, moved))
    return torch.stack(losses).std(dim=0)
