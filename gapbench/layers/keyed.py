"""Layers that draw by the counter hash: dropout, and the draw of a variational autoencoder.

The training loop gives each batch one key an example, so that draws are the same on every device, at every batch size, in every stack
and after a resume.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
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


def normals(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns one standard normal number (float64) for each 32-bit word: the inverse distribution function, at most 6.3 in size."""
    return torch.erfinv(_between_ends(words)) * math.sqrt(2.0)


def uniforms(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns one number (float64) for each 32-bit word, uniform with mean 0 and variance 1: on (-3^(1/2), 3^(1/2))."""
    return _between_ends(words) * math.sqrt(3.0)


def _between_ends(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return (words.to(torch.float64) + 0.5) * 2.0**-31 - 1.0  # on (-1, 1), never its ends


class LatentNoise(Keyed):
    """z = mean + exp(log_variance / 2) e, where e is standard normal: a hash of (seed, epoch, example, unit).

    The draw of a variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114).

    In evaluation there is one draw an example as well, the same at every evaluation of a run: the epoch is then a fixed number.
    """

    def forward(self, mean: Float[Tensor, "batch latent"], log_variance: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Returns the draw. Raises TrainingError where no keys are bound."""
        keys = self.bound_keys(len(mean), "the latent noise")
        return mean + (0.5 * log_variance).exp() * normals(self.words(keys, mean.shape[1])).to(mean.dtype)
