"""Dropout whose masks are a counter hash of (seed, epoch, example, layer, unit): the same on every device and at every batch size."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from gapbench.layers.keyed import Keyed, bind_keys

__all__ = ["Dropout", "bind_keys"]


class Dropout(Keyed):
    """Inverted dropout: in training each unit is zero with probability `probability`, the others are scaled up.

    The training loop gives every batch one key an example with `bind_keys`; evaluation needs none.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Drops units. Raises TrainingError in training mode where no keys are bound: a mask from nowhere is not repeatable."""
        if not self.training or self.probability == 0.0:
            return inputs
        keys = self.bound_keys(len(inputs), "dropout")
        return inputs * self.mask(keys, inputs[0].numel()).view(inputs.shape).to(inputs.dtype)

    def mask(self, keys: Int[Tensor, " batch"], units: int) -> Float[Tensor, "batch units"]:
        """Returns 0 or 1 / (1 - probability) for each unit."""
        kept: Tensor = self.words(keys, units) >= int(self.probability * 2**32)
        return kept.float() / (1.0 - self.probability)
