"""What an optimizer is to the engine: it moves flat rows of weights, one row a replica, by one update.

All parameters of a network lie in one row, those with weight decay first, so that an update is a few kernels whatever
the number of tensors. Its state lies in flat rows, too.

An update has two parts. `gather` leaves the gradient that the step is made from: by default that of the update's batch at the present
weights; a rule may ask for others. The engine then clips it, and `move` makes the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.layers.rows import Columns


@dataclass(frozen=True)
class FlatBuffers:
    """Weights and gradients of all replicas."""

    weights: Float[Tensor, "replica parameters"]
    gradients: Float[Tensor, "replica parameters"]
    decayed: int
    """The first so many columns take weight decay."""
    tensors: tuple[Columns, ...] = ()
    """Where each parameter tensor lies, in order of columns; those between are padding and stay zero."""


@dataclass(frozen=True)
class Hyperparameters:
    """What may differ from update to update and from replica to replica.

    Numbers of one replica or, where a recorded update finds them on the device, tensors that broadcast over the weights.
    """

    learning_rate: float | Tensor
    weight_decay: float | Tensor
    momentum: float | Tensor

    @staticmethod
    def on_device(
        rows: Sequence[Hyperparameters], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Hyperparameters:
        """Returns those of all replicas as tensors [replica, 1]."""
        values = torch.tensor([[row.learning_rate, row.weight_decay, row.momentum] for row in rows], dtype=dtype)
        columns = values.to(device, non_blocking=True).T[:, :, None]
        return Hyperparameters(columns[0], columns[1], columns[2])

    def of(self, replica: int) -> Hyperparameters:
        """Returns those of one replica as tensors of no dimension, out of tensors [replica, 1]."""
        rate, decay, momentum = (value[replica, 0] for value in (self.learning_rate, self.weight_decay, self.momentum))  # type: ignore[index]
        return Hyperparameters(rate, decay, momentum)


OfReplicas: TypeAlias = Sequence[Hyperparameters] | Hyperparameters
"""Hyperparameters of an update: one set of numbers a replica or, on the device, tensors [replica, 1]."""


class Gradients(ABC):
    """What a rule may ask for within an update.

    Asking moves nothing: weights are put back bit by bit, and norm statistics move once an update, by the first pass over each of its
    micro-batches.
    """

    @abstractmethod
    def again(
        self,
        weights: Float[Tensor, "replica parameters"] | None = None,
        *,
        fresh: bool = False,
        into: Float[Tensor, "replica parameters"] | None = None,
    ) -> Float[Tensor, "replica parameters"]:
        """Returns the gradient of the mean loss over the micro-batches, neither clipped nor decayed.

        Args:
            weights: where to take it; default: at the present weights.
            fresh: over micro-batches of the same sizes, of examples that no other call and no other update sees, in the place of those
                of the update.
            into: rows to write to; default: new ones.
        """

    @abstractmethod
    def by_worker(self, workers: int) -> tuple[Gradients, ...]:
        """Returns the micro-batches in groups of equal shares, in order, as workers have them that train in parallel.

        Raises TrainingError where the micro-batches cannot be dealt out evenly.
        """


@dataclass(frozen=True)
class Tile:
    """A piece of the rows whose elements share their hyperparameters, as views.

    One-dimensional, of one replica or of several with equal hyperparameters; in a recorded update of an `elementwise` optimizer
    [replica, columns]. Of an optimizer of `whole_rows` all there is, [replica, parameters].
    """

    replica: int
    """Whose hyperparameters hold; the first of several."""
    decays: bool
    """Whether weight decay applies."""
    weights: Float[Tensor, "..."]
    gradients: Float[Tensor, "..."]
    state: Mapping[str, Float[Tensor, "..."]]
    steps: Float[Tensor, ""]
    """Updates made, this one included, where the optimizer `counts_steps`."""
    tensor: Columns | None = None
    """Name and shape of the parameter tensor that it is, of a `layerwise` optimizer; else None: it is many of them."""


class Optimizer(ABC):
    """A rule over flat rows: no loop over parameters, no bookkeeping in Python.

    Where all rows have the same hyperparameters at every update (seeds of one cell) they are handed over as one tensor.

    Args:
        buffers: what to update, in place.
        options: the component's options from the suite.
        shared: whether all replicas have the same hyperparameters at every update.
    """

    state_names: tuple[str, ...]
    """Names of the tensors of state that have the shape of the weights."""
    counts_steps: bool = False
    """Whether its rule depends on the number of updates made."""
    follows_device: bool = False
    """Whether `move` takes hyperparameters that are tensors, too, so that an update can be recorded."""
    elementwise: bool = False
    """Whether `move` takes a tile of any shape and treats every element alike: then a recorded update moves all replicas at once."""

    layerwise: bool = False
    """Whether its rule treats each parameter tensor by itself, as LARS does: then a tile is one tensor of one replica."""
    whole_rows: bool = False
    """Whether `move` takes all replicas as one tile, [replica, parameters], always with hyperparameters that are tensors and broadcast
    over it; weight decay is zero in columns that take none. A rule by layers can then compute the norms of all tensors in one call."""

    def __init__(self, buffers: FlatBuffers, options: Mapping[str, Any], *, shared: bool) -> None:
        self.options = options
        self.buffers = buffers
        self.state = {name: torch.zeros_like(buffers.weights) for name in self.state_names}
        """Optimizer state, [replica, parameters] by name."""
        self._steps = torch.zeros((), dtype=torch.float32, device=buffers.weights.device)
        self._tiles = self._cut(shared=shared)
        self._recorded_tiles = self._cut(shared=shared, recorded=True)

    def gather(self, gradients: Gradients, hyperparameters: OfReplicas) -> None:
        """Leaves in `buffers.gradients` what the step is to be made from: the gradient of the update's batch at the present weights.

        A rule that looks elsewhere overrides it. State that it keeps from update to update is in `state`.
        """
        gradients.again(into=self.buffers.gradients)

    @abstractmethod
    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """Moves the weights of one tile by one update."""

    @torch.no_grad()
    def update(self, hyperparameters: OfReplicas) -> None:
        """Moves all weights by one update. Never waits for the device; with hyperparameters on it, nothing depends on the host."""
        if self.counts_steps:
            self._steps.add_(1)
        if self.whole_rows:
            self.move(self._tiles[0], self._of_columns(hyperparameters))
            return
        for tile in self._recorded_tiles if isinstance(hyperparameters, Hyperparameters) else self._tiles:
            if not isinstance(hyperparameters, Hyperparameters):
                wanted = hyperparameters[tile.replica]
            else:
                wanted = hyperparameters if self.elementwise and not self.layerwise else hyperparameters.of(tile.replica)
            self.move(tile, wanted if tile.decays else Hyperparameters(wanted.learning_rate, 0.0, wanted.momentum))

    def _of_columns(self, hyperparameters: OfReplicas) -> Hyperparameters:
        """Returns hyperparameters as tensors [replica, 1], and weight decay [replica, parameters]."""
        weights = self.buffers.weights
        if not isinstance(hyperparameters, Hyperparameters):
            hyperparameters = Hyperparameters.on_device(hyperparameters, weights.device, weights.dtype)
        decays = torch.arange(weights.shape[1], device=weights.device) < self.buffers.decayed
        return replace(hyperparameters, weight_decay=hyperparameters.weight_decay * decays)

    @property
    def moved(self) -> list[Tensor]:
        """All tensors that an update moves, beside the weights."""
        return [*self.state.values(), self._steps]

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets everything, as an optimizer that is made anew: all state is zero, and counted updates begin at none.

        So AdamW corrects the bias of its moments from the start again.
        """
        for tensor in self.moved:
            tensor.zero_()

    def snapshot(self, replica: int, updates: int) -> dict[str, Any]:
        """Returns the state of one replica after `updates` updates: tensors [parameters] on the CPU."""
        return {"steps": updates, **{name: state[replica].cpu().clone() for name, state in self.state.items()}}

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned, whatever stack the replica was in then."""
        for name, state in self.state.items():
            state[replica].copy_(snapshot[name])
        self._steps.fill_(float(snapshot["steps"]))

    def _cut(self, *, shared: bool, recorded: bool = False) -> list[Tile]:
        """Returns the tiles of an update that is recorded or not."""
        weights, decayed = self.buffers.weights, self.buffers.decayed
        if self.whole_rows:
            return [Tile(0, True, weights, self.buffers.gradients, self.state, self._steps)]
        parts: list[tuple[slice, Columns | None]]
        if self.layerwise and self.buffers.tensors:
            parts = [(slice(tensor.start, tensor.stop), tensor) for tensor in self.buffers.tensors]
        else:
            halves = (slice(0, decayed), slice(decayed, weights.shape[1]))
            parts = [(part, None) for part in halves if part.start < part.stop]
        broadcast = recorded and self.elementwise and not self.layerwise
        # One part of all rows is one contiguous piece of memory; part of each row is not.
        together = broadcast or (shared and len(parts) == 1 and not self.layerwise)
        rows = [slice(None)] if together else [slice(row, row + 1) for row in range(len(weights))]
        tiles = []
        for row in rows:
            for part, tensor in parts:
                buffers = {"weights": weights, "gradients": self.buffers.gradients, **self.state}
                views = {name: buffer[row, part] if broadcast else buffer[row, part].view(-1) for name, buffer in buffers.items()}
                own, gradients = views.pop("weights"), views.pop("gradients")
                tiles.append(Tile(row.start or 0, part.start < decayed, own, gradients, views, self._steps, tensor))
        return tiles


def plus(first: Tensor, second: Tensor, factor: float | Tensor, *, out: Tensor | None = None) -> Tensor:
    """Returns first + factor * second, whether the factor is a number or a tensor."""
    if isinstance(factor, Tensor):
        return torch.addcmul(first, second, factor, out=out)
    return torch.add(first, second, alpha=factor, out=out)
