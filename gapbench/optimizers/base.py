"""What an optimizer is to the engine: it moves flat rows of weights, one row a replica, by one update.

All parameters of a network lie in one row, those with weight decay first, so that an update is a few kernels whatever
the number of tensors. The arithmetic itself is torch.optim's fused one; its state lies in flat rows too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FlatBuffers:
    """Weights and gradients of all replicas."""

    weights: Float[Tensor, "replica parameters"]
    gradients: Float[Tensor, "replica parameters"]
    decayed: int
    """The first so many columns take weight decay."""


@dataclass(frozen=True)
class Hyperparameters:
    """What may differ from update to update and from replica to replica."""

    learning_rate: float
    weight_decay: float
    momentum: float


@dataclass(frozen=True)
class DeviceHyperparameters:
    """Hyperparameters of an update that lie on the device, so that one recorded program serves all updates."""

    learning_rate: Float[Tensor, "replica 1"]
    weight_decay: Float[Tensor, "replica 1"]
    momentum: Float[Tensor, "replica 1"]

    @staticmethod
    def of(rows: Sequence[Hyperparameters]) -> DeviceHyperparameters:
        """Returns what the host knows, one set a replica, as tensors of the CPU."""
        columns = torch.tensor([[row.learning_rate, row.weight_decay, row.momentum] for row in rows]).T[:, :, None]
        return DeviceHyperparameters(columns[0], columns[1], columns[2])


@dataclass(frozen=True)
class Tile:
    """A contiguous piece of the rows whose elements share their hyperparameters; one-dimensional views."""

    replica: int
    """Whose hyperparameters hold."""
    decays: bool
    """Whether weight decay applies."""
    weights: Float[Tensor, " elements"]
    gradients: Float[Tensor, " elements"]
    state: Mapping[str, Float[Tensor, " elements"]]
    steps: Float[Tensor, ""]
    """Updates made, for optimizers that need it."""


class Optimizer(ABC):
    """An optimizer of torch.optim over flat rows, by its functional form: no loop over parameters, no bookkeeping in Python.

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
    """Whether `move_rows` is there, so that hyperparameters may lie on the device."""

    def __init__(self, buffers: FlatBuffers, options: Mapping[str, Any], *, shared: bool) -> None:
        self.options = options
        self.buffers = buffers
        self.state = {name: torch.zeros_like(buffers.weights) for name in self.state_names}
        """Optimizer state, [replica, parameters] by name."""
        replicas, columns = buffers.weights.shape
        parts = [(slice(0, buffers.decayed), True), (slice(buffers.decayed, columns), False)]
        parts = [(part, decays) for part, decays in parts if part.start < part.stop]
        # One part of all rows is one contiguous piece of memory; part of each row is not.
        rows = [slice(None)] if shared and len(parts) == 1 else [slice(row, row + 1) for row in range(replicas)]
        self._tiles = [
            Tile(
                replica=row.start or 0,
                decays=decays,
                weights=buffers.weights[row, part].view(-1),
                gradients=buffers.gradients[row, part].view(-1),
                state={name: state[row, part].view(-1) for name, state in self.state.items()},
                steps=torch.zeros((), dtype=torch.float32, device=buffers.weights.device),
            )
            for row in rows
            for part, decays in parts
        ]

    @abstractmethod
    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """Moves the weights of one tile by one update."""

    @torch.no_grad()
    def update(self, hyperparameters: Sequence[Hyperparameters]) -> None:
        """Moves all weights by one update; one set of hyperparameters a replica. Never waits for the device."""
        for tile in self._tiles:
            wanted = hyperparameters[tile.replica]
            self.move(tile, wanted if tile.decays else replace(wanted, weight_decay=0.0))

    def move_rows(self, steps: Float[Tensor, ""], hyperparameters: DeviceHyperparameters) -> None:
        """Moves all rows of `buffers` by one update, by the rule of `move`, with hyperparameters that only the device knows.

        Args:
            steps: updates made, this one included.
            hyperparameters: of every replica.
        """
        raise NotImplementedError(f"{type(self).__name__} needs its hyperparameters on the host")

    @torch.no_grad()
    def update_on_device(self, hyperparameters: DeviceHyperparameters) -> None:
        """Does what `update` does, but for rounding, where `follows_device`: nothing in it depends on the host."""
        counters = [tile.steps for tile in self._tiles]
        if self.counts_steps:
            torch._foreach_add_(counters, 1)
        self.move_rows(counters[0], hyperparameters)

    @property
    def moved(self) -> list[Tensor]:
        """All tensors that an update moves, beside the weights."""
        return [*self.state.values(), *(tile.steps for tile in self._tiles)]

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets everything, as an optimizer that is made anew: all state is zero, and counted updates begin at none.

        So AdamW corrects the bias of its moments from the start again.
        """
        for state in self.state.values():
            state.zero_()
        for tile in self._tiles:
            tile.steps.zero_()

    def snapshot(self, replica: int, updates: int) -> dict[str, Any]:
        """Returns the state of one replica after `updates` updates: tensors [parameters] on the CPU."""
        return {"steps": updates, **{name: state[replica].cpu().clone() for name, state in self.state.items()}}

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned, whatever stack the replica was in then."""
        for name, state in self.state.items():
            state[replica].copy_(snapshot[name])
        for tile in self._tiles:
            tile.steps.fill_(float(snapshot["steps"]))
