"""Curvature: the top eigenvalue of the Hessian by Lanczos and its trace by Hutchinson's estimator.

Beside the eigenvalue stands its share of the edge of stability, lambda_max * learning_rate / (2 (1 + momentum)): heavy-ball descent on a
quadratic diverges above 1, and training sits near it (Cohen et al. 2021), so that across arms lambda_max mostly reads the learning rate.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import derive_seed
from gapbench.probes.directions import column_mask
from gapbench.probes.state import ObjectiveBatch, TrainState


def hessian(
    state: TrainState,
    *,
    examples: int = 2048,
    norm: Literal["train", "running"] = "train",
    tolerance: float = 0.01,
    iterations: int = 20,
    trace_vectors: int = 16,
) -> dict[str, Tensor]:
    """Largest eigenvalue of the Hessian (with its residual and its share of the edge of stability), and trace (with its standard error).

    Over a fixed, unaugmented subset of the training set. `tolerance` is relative; where Lanczos does not reach it within `iterations`
    restarts there is no eigenvalue.
    """
    if trace_vectors < 2:
        raise TrainingError("hessian needs at least 2 trace vectors: one has no standard error")
    batch = state.objective.fixed(examples, norm=norm)
    top, residual = _top_eigenvalues(state, batch, tolerance, iterations)
    mean, error = _trace(state, batch, trace_vectors)
    # An optimizer without momentum as an option (Adam) has another edge: then there is no such share.
    momentum = torch.full_like(state.learning_rate, torch.nan) if state.momentum is None else state.momentum
    return {
        "hessian_loss": state.objective.loss(batch),
        "hessian_top": top,
        "hessian_top_residual": residual,
        "hessian_edge": top * state.learning_rate / (2.0 * (1.0 + momentum)),
        "hessian_trace": mean,
        "hessian_trace_error": error,
    }


def _top_eigenvalues(state: TrainState, batch: ObjectiveBatch, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Returns lambda and ||H v - lambda v||, within which of lambda an eigenvalue lies, replica by replica."""
    columns = column_mask(state).nonzero()[:, 0]
    start = torch.randn(len(columns), generator=torch.Generator().manual_seed(derive_seed(0, "hessian start"))).double().numpy()
    found = torch.full((2, len(state.weights)), torch.nan, dtype=torch.float64)
    finite = torch.isfinite(state.objective.loss(batch)).tolist()
    for replica, sound in enumerate(finite):
        if not sound:
            continue  # a diverged replica has no curvature

        def product(vector: npt.NDArray[np.float64], replica: int = replica) -> npt.NDArray[np.float64]:
            rows = torch.zeros_like(state.weights)
            rows[replica, columns] = torch.from_numpy(vector.ravel().copy()).to(rows)
            return state.objective.hessian_product(batch, rows)[replica, columns].double().cpu().numpy()

        operator = LinearOperator((len(columns), len(columns)), matvec=product, dtype=np.float64)
        try:
            values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, maxiter=iterations)
        except ArpackNoConvergence:
            continue
        found[:, replica] = torch.tensor([values[0], np.linalg.norm(product(vectors[:, 0]) - values[0] * vectors[:, 0])])
    top, residual = found.to(state.weights.device)
    return top, residual


def _trace(state: TrainState, batch: ObjectiveBatch, vectors: int) -> tuple[Tensor, Tensor]:
    """Returns the mean of v . H v over vectors of random signs, and its standard error."""
    generator = torch.Generator().manual_seed(derive_seed(0, "hessian trace"))
    mask = column_mask(state)
    products = []
    for _ in range(vectors):
        signs = torch.randint(0, 2, (len(mask),), generator=generator).to(mask) * 2.0 - 1.0
        rows = (signs * mask).expand_as(state.weights)
        products.append((rows * state.objective.hessian_product(batch, rows)).double().sum(dim=1))
    samples = torch.stack(products)
    return samples.mean(dim=0), samples.std(dim=0) / vectors**0.5
