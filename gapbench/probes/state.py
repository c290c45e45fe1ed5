"""The training state as probes see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.probes.objective import Objective


@dataclass(frozen=True)
class Layer:
    """A parameter tensor's place in the flat rows: columns start .. stop - 1."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...] = ()
    """Of one replica's parameter. Its first dimension is the slowest in the row; the others may stand in another order (kernels are
    channels-last), so that a filter is a contiguous piece."""


@dataclass
class TrainState:
    """What is known after `update` updates, all replicas together. Tensors are on the training device and may not be changed."""

    update: int
    batch_size: int
    """Examples that the gradients are of; at stage `micro-batch` those of the micro-batch."""
    weights: Float[Tensor, "replica parameters"]
    initial_weights: Float[Tensor, "replica parameters"]
    gradients: Float[Tensor, "replica parameters"]
    """Of the last batch, clipped, at stage `update`; of this micro-batch alone, not clipped, at stage `micro-batch`."""
    gradient_norm: Float[Tensor, " replica"]
    """Their global L2 norm before clipping."""
    batch_loss: Float[Tensor, " replica"]
    """Mean cross entropy of the last batch, before its update, in training mode."""
    batch_correct: Float[Tensor, " replica"]
    """Number of examples of the last batch that were right before its update."""
    clipped_updates: Float[Tensor, " replica"]
    """Updates so far in which the gradient was scaled down."""
    learning_rate: Float[Tensor, " replica"]
    """Of the last update."""
    layers: tuple[Layer, ...]
    micro_batches: int = 1
    """In how many pieces an update is made."""
    early: dict[str, Tensor] = field(default_factory=dict)
    """What probes of stage `micro-batch` returned for this update."""
    momentum: Float[Tensor, " replica"] | None = None
    """Of the last update; None where the optimizer has none."""
    provided: Objective | None = field(default=None, repr=False)
    """The objective where a probe of the run declares that it needs it; probes read `objective`."""

    @property
    def objective(self) -> Objective:
        """The loss at other examples and weights. Raises TrainingError where no probe of the run declares that it needs it."""
        if self.provided is None:
            raise TrainingError("a probe uses state.objective and does not declare it; declare it with needs_objective=True")
        return self.provided

    @cached_property
    def displacement(self) -> Float[Tensor, "replica parameters"]:
        """w_t - w_0."""
        return self.weights - self.initial_weights

    def by_layer(self, rows: Float[Tensor, "replica parameters"]) -> Float[Tensor, "replica layer"]:
        """Returns the L2 norm of each layer's columns."""
        return torch.stack([rows[:, layer.start : layer.stop].norm(dim=1) for layer in self.layers], dim=1)
