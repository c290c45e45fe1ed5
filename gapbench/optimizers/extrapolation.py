"""Extrapolation: the gradient of an update is taken away from the present weights, and the step is made from these.

Lin, Kong, Stich and Jaggi 2020, arXiv:2006.05720, and its relatives: extragradient steps, noise, sharpness-aware minimization (Foret et al.
2021, arXiv:2010.01412) and its form by momentum (Becker et al. 2024, arXiv:2401.12033). The paper's hyperparameters were not read; which
points exist, and how they are scaled, are our definitions, in docs/optimizers.md.

Worker k of K has a K-th of the batch and takes its gradient g_k at w + step * direction_k; the optimizer's step is made from their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.layers.rows import row_norms
from gapbench.optimizers.base import Gradients, Optimizer
from gapbench.optimizers.tensors import Tensors
from gapbench.suite.runspec import Extrapolation
from gapbench.suite.schema import PAST

SAM_EPSILON = 1e-12
"""Added to the norm that a gradient is divided by, as in the code at davda54/sam."""
MOMENTA = ("momentum_buffer", "exp_avg")
"""State that is a moving sum or average of gradients."""

Rows = Float[Tensor, "replica parameters"]


class Extrapolated:
    """Gathers gradients for an optimizer at extrapolated weights.

    Args:
        optimizer: whose rule it is; it asks for one gradient an update.
        rule: direction, workers and scale.
        noise: returns the rows of a draw, independent numbers of variance 1, for directions that are random; padding is zero.

    Raises:
        TrainingError: the optimizer asks for gradients itself, or has no momentum where that is the direction.
    """

    def __init__(self, optimizer: Optimizer, rule: Extrapolation, noise: Callable[[int], Rows]) -> None:
        if type(optimizer).gather is not Optimizer.gather:
            raise TrainingError(
                "extrapolation wraps optimizers that take the gradient at the present weights, and this one asks for others"
            )
        self._optimizer = optimizer
        self._rule = rule
        self._noise = noise
        self._momentum = next((optimizer.state[name] for name in MOMENTA if name in optimizer.state), None)
        if rule.direction == "momentum" and self._momentum is None:
            raise TrainingError("extrapolation along the momentum needs an optimizer that keeps one")
        self._tensors = Tensors(optimizer.buffers) if rule.scale == "tensor" else None
        self.past = optimizer.buffers.weights.new_zeros(rule.workers if rule.direction in PAST else 0, *optimizer.buffers.weights.shape)
        """The last gradient of each worker, [worker, replica, parameters]; of directions without memory empty."""

    def gather(self, gradients: Gradients, update: int, steps: Sequence[float]) -> None:
        """Leaves the mean gradient of the workers in the optimizer's buffers.

        Args:
            gradients: of the update.
            update: its number.
            steps: how far each replica extrapolates, the sign left to the direction.
        """
        buffers, count = self._optimizer.buffers, self._rule.workers
        lengths = torch.tensor(steps, dtype=buffers.weights.dtype).to(buffers.weights.device, non_blocking=True)[:, None]
        mean = self.past.mean(dim=0) if len(self.past) else None
        for number, worker in enumerate(gradients.by_worker(count) if count > 1 else [gradients]):
            place = torch.addcmul(buffers.weights, self._direction(worker, number, update, mean), lengths)
            own = worker.again(place)
            if len(self.past):
                self.past[number].copy_(own)
            if number == 0:
                buffers.gradients.copy_(own)
            else:
                buffers.gradients.add_(own)
        if count > 1:
            buffers.gradients.div_(count)

    def _direction(self, worker: Gradients, number: int, update: int, mean: Rows | None) -> Rows:
        """Returns where a worker looks, away from the present weights, at step 1."""
        match self._rule.direction:
            case "past-local" | "past-global":  # of one worker the last gradient is that of all
                return -self.past[number]
            case "past-centered":
                assert mean is not None
                return mean - self.past[number]
            case "fresh-local":
                return -worker.again(fresh=True)
            case "same-batch":
                return -worker.again()
            case "sam":
                gradient = worker.again()
                return gradient / (row_norms(gradient)[:, None] + SAM_EPSILON)
            case "momentum":
                assert self._momentum is not None
                # Without momentum yet it is zero, and so is the direction.
                return -self._momentum / row_norms(self._momentum)[:, None].clamp(min=torch.finfo(self._momentum.dtype).tiny)
        noise = self._noise(update * self._rule.workers + number)
        return noise if self._tensors is None else noise * self._tensors.spread(self._tensors.sizes(self._optimizer.buffers.weights))

    @property
    def moved(self) -> list[Tensor]:
        """All tensors that an update moves."""
        return [self.past]

    def reset(self) -> None:
        """Forgets the gradients of workers."""
        self.past.zero_()

    def snapshot(self, replica: int) -> dict[str, Any]:
        """Returns the state of one replica: tensors on the CPU."""
        return {"past": self.past[:, replica].cpu().clone()}

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned, whatever stack the replica was in then."""
        self.past[:, replica].copy_(snapshot["past"])
