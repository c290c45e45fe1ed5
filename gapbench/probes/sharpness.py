"""Sharpness as Keskar et al. 2017 measured it (metric 2.1): how much higher the loss gets within a small box around the weights.

    phi = 100 (max over y in C of f(w + A y) - f(w)) / (1 + f(w)),   C = {y: |y_i| <= epsilon (|(A^+ w)_i| + 1)}

In the full space (A the identity) and in a random subspace (A with standard normal columns, A^+ its pseudo-inverse), both maximized by
at most 10 iterations of L-BFGS-B from y = 0, as there. The box is absolute, so that rescaling filters, which batch norm undoes, changes
phi (Dinh et al. 2017); the third box is relative to each filter and is blind to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.optimize import Bounds, minimize
from torch import Tensor

from gapbench.core.hashing import derive_seed
from gapbench.probes.directions import column_mask, filters
from gapbench.probes.state import ObjectiveBatch, TrainState

Row = Float[Tensor, " parameters"]
Vector = npt.NDArray[np.float64]


def sharpness(
    state: TrainState,
    *,
    epsilon: float = 1e-3,
    filter_epsilon: float = 1e-2,
    subspace: int = 100,
    iterations: int = 10,
    examples: int = 2048,
    norm: Literal["train", "running"] = "train",
) -> dict[str, Tensor]:
    """Largest rise of the loss in a box around the weights, percent of 1 + loss: full space, random subspace, filter-normalized.

    What L-BFGS-B found in so many iterations: a lower bound of the maximum. The subspace takes memory for `subspace` copies of one
    replica's weights.
    """
    batch = state.objective.fixed(examples, norm=norm)
    mask = column_mask(state)
    absolute = epsilon * (state.weights.abs() + 1.0) * mask
    relative = torch.zeros_like(state.weights)
    for width, weights in zip(filters(state, relative), filters(state, state.weights), strict=True):
        width.copy_((filter_epsilon * weights.square().mean(dim=2, keepdim=True).sqrt()).expand_as(weights))
    basis = _basis(state, subspace, mask)
    found: dict[str, list[float]] = {"sharpness": [], "sharpness_filter": [], "sharpness_subspace": []}
    for replica in range(len(state.weights)):
        risen = Risen(state, batch, replica)
        found["sharpness"].append(risen.within_box(absolute[replica], iterations))
        found["sharpness_filter"].append(risen.within_box(relative[replica], iterations))
        found["sharpness_subspace"].append(risen.within_subspace(basis, epsilon, iterations))
    return {
        "sharpness_loss": state.objective.loss(batch),
        **{name: torch.tensor(rises, dtype=torch.float64, device=state.weights.device) for name, rises in found.items()},
    }


class Risen:
    """The rise of one replica's loss over that at its weights; the others stay where they are."""

    def __init__(self, state: TrainState, batch: ObjectiveBatch, replica: int) -> None:
        self._state = state
        self._batch = batch
        self._replica = replica
        self._center = float(state.objective.loss(batch)[replica])

    def within_box(self, width: Row, iterations: int) -> float:
        """Returns phi over the box of these half widths; columns of width 0 do not move."""
        free = (width > 0).nonzero()[:, 0]

        def shift(vector: Vector) -> Row:
            row = torch.zeros_like(width)
            row[free] = _row(vector, row)
            return row

        return self._maximize(shift, lambda gradient: gradient[free], width[free], iterations)

    def within_subspace(self, basis: Float[Tensor, "dimension parameters"], epsilon: float, iterations: int) -> float:
        """Returns phi over the box in the subspace that the rows of `basis` span."""
        weights = self._state.weights[self._replica]
        # A^+ w = (A^T A)^-1 A^T w for the columns of A, which are the rows of the basis.
        inside = torch.linalg.solve((basis @ basis.T).double(), (basis @ weights).double())
        width = epsilon * (inside.abs() + 1.0)
        return self._maximize(lambda vector: _row(vector, weights) @ basis, lambda gradient: basis @ gradient, width, iterations)

    def _maximize(self, shift: Callable[[Vector], Row], pull_back: Callable[[Row], Tensor], width: Tensor, iterations: int) -> float:
        state, replica = self._state, self._replica
        if not np.isfinite(self._center):
            return float("nan")  # a diverged replica
        highest = self._center

        def descent(vector: Vector) -> tuple[float, Vector]:
            nonlocal highest
            rows = state.weights.clone()
            rows[replica] += shift(vector)
            loss = float(state.objective.loss(self._batch, rows)[replica])
            gradient = pull_back(state.objective.gradient(self._batch, rows)[replica])
            highest = max(highest, loss)
            return -loss, -gradient.double().cpu().numpy()

        half = width.double().cpu().numpy()
        minimize(descent, np.zeros_like(half), jac=True, method="L-BFGS-B", bounds=Bounds(-half, half), options={"maxiter": iterations})
        return 100.0 * (highest - self._center) / (1.0 + self._center)


def _basis(state: TrainState, dimension: int, mask: Row) -> Float[Tensor, "dimension parameters"]:
    generator = torch.Generator().manual_seed(derive_seed(0, "sharpness subspace"))
    rows = torch.empty(dimension, len(mask), device=mask.device)
    for row in rows:
        row.copy_(torch.randn(len(mask), generator=generator))
    return rows.mul_(mask)


def _row(vector: Vector, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(vector)).to(dtype=like.dtype, device=like.device)
