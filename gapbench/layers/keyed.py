"""Layers that draw by the counter hash: the training loop gives each batch one key an example, so that no draw depends on the batch."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import MASK32, mix32


class Keyed(nn.Module):
    """A layer whose draws are a hash of (key of the example, layer, unit)."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0
        """Which of the model's keyed layers this is, so that two layers draw differently."""
        self.keys: Int[Tensor, " batch"] | None = None

    def words(self, keys: Int[Tensor, " batch"], units: int) -> Int[Tensor, "batch units"]:
        """Returns one 32-bit word for each unit of each example."""
        unit = torch.arange(units, device=keys.device) + (self.position << 24)
        return mix32(keys[:, None] ^ mix32(unit & MASK32))  # type: ignore[no-any-return]

    def bound_keys(self, examples: int, what: str) -> Int[Tensor, " batch"]:
        """Returns the keys of the batch. Raises TrainingError where none are bound: a draw from nowhere is not repeatable."""
        if self.keys is None or len(self.keys) != examples:
            raise TrainingError(f"{what} has no keys for this batch; call gapbench.layers.keyed.bind_keys(model, keys) before the forward")
        return self.keys


def bind_keys(model: nn.Module, keys: Int[Tensor, " batch"]) -> None:
    """Gives the keyed layers of `model` the keys of the next batch: 32-bit words, one an example."""
    for layer in keyed_layers(model):
        layer.keys = keys


def keyed_layers(model: nn.Module) -> list[Keyed]:
    """Returns the keyed layers of `model`, numbered in the order of its modules."""
    layers = [module for module in model.modules() if isinstance(module, Keyed)]
    for position, layer in enumerate(layers):
        layer.position = position
    return layers
