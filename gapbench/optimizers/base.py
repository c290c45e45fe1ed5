"""What an optimizer is to the engine: it moves flat rows of weights, one row a replica, by one update.

All parameters of a network lie in one row, those with weight decay first, so that an update is a few kernels whatever
the number of tensors. The arithmetic itself is torch.optim's fused one; its state lies in flat rows too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


class Optimizer(ABC):
    """An optimizer of torch.optim over flat rows.

    Where all rows have the same hyperparameters at every update (seeds of one cell) they are handed over as one tensor.

    Args:
        buffers: what to update, in place.
        options: the component's options from the suite.
        shared: whether all replicas have the same hyperparameters at every update.
    """

    state_names: tuple[str, ...]
    """Names, in torch's optimizer state, of the tensors that have the shape of the weights."""
    counts_steps: bool = False
    """Whether torch's optimizer state has a tensor `step`."""

    def __init__(self, buffers: FlatBuffers, options: Mapping[str, Any], *, shared: bool) -> None:
        self.options = options
        self.state = {name: torch.zeros_like(buffers.weights) for name in self.state_names}
        """Optimizer state, [replica, parameters] by name."""
        self.steps = torch.zeros((), dtype=torch.float32, device=buffers.weights.device)
        everything = slice(0, buffers.weights.shape[1])
        parts = [(slice(0, buffers.decayed), True), (slice(buffers.decayed, everything.stop), False)]
        parts = [(part, decays) for part, decays in parts if part.start < part.stop]
        if shared and len(parts) == 1:
            tiles = [(0, parts[0][1], (slice(None), everything))]
        else:
            tiles = [(row, decays, (slice(row, row + 1), part)) for row in range(len(buffers.weights)) for part, decays in parts]
        self._tiles = [(row, decays) for row, decays, _ in tiles]
        weights = [buffers.weights[where].view(-1) for _, _, where in tiles]
        for tensor, (_, _, where) in zip(weights, tiles, strict=True):
            tensor.grad = buffers.gradients[where].view(-1)
        self._torch = self.build([{"params": [tensor]} for tensor in weights])
        for tensor, (_, _, where) in zip(weights, tiles, strict=True):
            self._torch.state[tensor].update({name: state[where].view(-1) for name, state in self.state.items()})
            if self.counts_steps:
                self._torch.state[tensor]["step"] = self.steps if len(tiles) == 1 else self.steps.clone()
        self._last: list[Hyperparameters | None] = [None] * len(tiles)

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns the optimizer of torch for these parameter groups."""

    @abstractmethod
    def set_group(self, group: dict[str, Any], hyperparameters: Hyperparameters) -> None:
        """Puts hyperparameters into a parameter group."""

    def update(self, hyperparameters: Sequence[Hyperparameters]) -> None:
        """Moves all weights by one update; one set of hyperparameters a replica. Never waits for the device."""
        for position, (row, decays) in enumerate(self._tiles):
            wanted = hyperparameters[row]
            if wanted != self._last[position]:
                self._last[position] = wanted
                group = self._torch.param_groups[position]
                self.set_group(group, wanted if decays else Hyperparameters(wanted.learning_rate, 0.0, wanted.momentum))
        self._torch.step()

    def snapshot(self, replica: int, updates: int) -> dict[str, Any]:
        """Returns the state of one replica after `updates` updates: tensors [parameters] on the CPU."""
        return {"steps": updates, **{name: state[replica].cpu().clone() for name, state in self.state.items()}}

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned, whatever stack the replica was in then."""
        for name, state in self.state.items():
            state[replica].copy_(snapshot[name])
        if self.counts_steps:
            for state in self._torch.state.values():
                state["step"].fill_(float(snapshot["steps"]))
