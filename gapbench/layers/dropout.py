"""Dropout whose masks are a counter hash of (seed, epoch, example, layer, unit): the same on every device and at every batch size."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import MASK32, mix32


class Dropout(nn.Module):
    """Inverted dropout: in training each unit is zero with probability `probability`, the others are scaled up.

    The training loop gives every batch one key an example with `bind_keys`; evaluation needs none.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        self.probability = probability
        self.position = 0
        """Which of the model's dropout layers this is, so that two layers draw different masks."""
        self.keys: Int[Tensor, " batch"] | None = None

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Drops units. Raises TrainingError in training mode where no keys are bound: a mask from nowhere is not repeatable."""
        if not self.training or self.probability == 0.0:
            return inputs
        if self.keys is None or len(self.keys) != len(inputs):
            raise TrainingError(
                "dropout has no keys for this batch; call gapbench.layers.dropout.bind_keys(model, keys) before the forward"
            )
        return inputs * self.mask(self.keys, inputs[0].numel()).view(inputs.shape).to(inputs.dtype)

    def mask(self, keys: Int[Tensor, " batch"], units: int) -> Float[Tensor, "batch units"]:
        """Returns 0 or 1 / (1 - probability) for each unit."""
        unit = torch.arange(units, device=keys.device) + (self.position << 24)
        words = mix32(keys[:, None] ^ mix32(unit & MASK32))
        kept: Tensor = words >= int(self.probability * 2**32)
        return kept.float() / (1.0 - self.probability)


def bind_keys(model: nn.Module, keys: Int[Tensor, " batch"]) -> None:
    """Gives the dropout layers of `model` the keys of the next batch: 32-bit words, one an example."""
    for layer in dropout_layers(model):
        layer.keys = keys


def dropout_layers(model: nn.Module) -> list[Dropout]:
    """Returns the dropout layers of `model`, numbered in the order of its modules."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    for position, layer in enumerate(layers):
        layer.position = position
    return layers
