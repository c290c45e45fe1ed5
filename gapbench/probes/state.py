"""The training state as probes see it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.layers.rows import row_norms

# The objective: the loss itself, for probes that need more of it than the gradient that an update was made from.
#
# The engine provides it as `state.objective` to probes that are declared with `needs_objective`. Nothing that it does changes
# training: not weights, norm statistics, random numbers or the order of examples. It computes in fp32 with the fp32 weights whatever
# the run's precision, since neither curvature nor small differences of the loss survive bf16.

NormMode: TypeAlias = Literal["train", "running"]
"""Whose statistics batch norm uses: `train`, those of the groups that the run normalizes in training (its ghost batch size, else its
batch size); `running`, the moving averages that evaluation uses. Neither moves the averages."""


@dataclass(frozen=True)
class ObjectiveBatch:
    """Examples, and how the network sees them. Holds their numbers only; images are made chunk by chunk."""

    indices: Int[Tensor, "replica examples"]
    """Numbers in the pool of all examples."""
    draws: Int[Tensor, "replica examples"] | None
    """Counters of augmentation and dropout; None: images as they are, without dropout."""
    norm: NormMode
    group: int
    """Examples that are normalized together with `norm = "train"`; contiguous, and a divisor of their number. 1: nothing couples them."""

    @property
    def examples(self) -> int:
        """Examples of one replica."""
        return self.indices.shape[1]

    def part(self, start: int, stop: int) -> ObjectiveBatch:
        """Returns the examples `start` .. `stop` - 1. Raises ValueError where that cuts a norm group."""
        if start % self.group or stop % self.group:
            raise ValueError(f"examples {start} to {stop} cut a norm group of {self.group}; cut at its multiples")
        draws = None if self.draws is None else self.draws[:, start:stop]
        return replace(self, indices=self.indices[:, start:stop], draws=draws)

    def split(self, examples: int) -> tuple[ObjectiveBatch, ...]:
        """Returns the batch in parts of `examples`, in order, the last one shorter where it does not divide. Raises as `part`."""
        return tuple(self.part(start, min(start + examples, self.examples)) for start in range(0, self.examples, examples))


@runtime_checkable
class Objective(Protocol):
    """Loss, gradient and curvature of all replicas at once; every loss is the mean cross entropy over a batch, without weight decay.

    Weights and vectors are flat rows as in `TrainState`; columns of no layer are padding: zero in what is returned, without effect in
    what is given. Results stay on the training device.
    """

    def fresh(self, examples: int, draw: int, *, norm: NormMode = "train", purpose: str = "objective") -> ObjectiveBatch:
        """Returns examples of the training distribution as training sees them: augmented, and dropped out.

        Each is drawn uniformly from the replica's training set, with replacement and with an augmentation of its own, by a counter hash
        of (order seed, purpose, update, draw, position). Draws are therefore independent and identically distributed, within a batch
        and between batches: E |g|^2 = |G|^2 + tr(Sigma) / examples holds with no correction for a finite training set, which the next
        examples of a permutation would need. The same at every batch size, in every stack and after a resume; a batch of fewer
        examples is the beginning of one of more.

        Args:
            examples: of each replica. With batch norm and `norm = "train"` rounded down to whole norm groups; fewer than one are one group.
            draw: number of the batch, >= 0.
            norm: see `NormMode`.
            purpose: name of the random stream; probes that should not share examples name their own.
        """

    def batch(self) -> ObjectiveBatch:
        """Returns the batch of the update that is being made, or was made last, as training sees it.

        At stage `micro-batch` the weights are those that its gradient is taken at.
        """

    def fixed(self, examples: int, *, norm: NormMode = "train") -> ObjectiveBatch:
        """Returns a fixed subset of the training set, the same for all runs of a data set's split: not augmented, no dropout.

        Args:
            examples: at most the training set; rounded as those of `fresh`. A smaller subset is the beginning of a larger one.
            norm: see `NormMode`.
        """

    def loss(self, batch: ObjectiveBatch, weights: Float[Tensor, "replica parameters"] | None = None) -> Float[Tensor, " replica"]:
        """Returns the mean loss, float64, at `weights` (default: the present ones). Norm statistics `running` stay the present ones."""

    def gradient(
        self, batch: ObjectiveBatch, weights: Float[Tensor, "replica parameters"] | None = None
    ) -> Float[Tensor, "replica parameters"]:
        """Returns the gradient of `loss`, neither clipped nor decayed."""

    def hessian_product(
        self, batch: ObjectiveBatch, vector: Float[Tensor, "replica parameters"], weights: Float[Tensor, "replica parameters"] | None = None
    ) -> Float[Tensor, "replica parameters"]:
        """Returns the Hessian of `loss` times `vector`, by double backward: exact but for rounding."""


@dataclass(frozen=True)
class Columns:
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
    layers: tuple[Columns, ...]
    micro_batches: int = 1
    """At stage `micro-batch`: in how many pieces of equal size the update is made; 0 where their sizes differ."""
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
        return torch.stack([row_norms(rows[:, layer.start : layer.stop]) for layer in self.layers], dim=1)
