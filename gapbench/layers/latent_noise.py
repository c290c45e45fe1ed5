"""The random draw of a variational autoencoder, one an example, by the counter hash (Kingma and Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gapbench.layers.hashed_normals import normals
from gapbench.layers.keyed import Keyed


class LatentNoise(Keyed):
    """z = mean + exp(log_variance / 2) e, where e is standard normal: a hash of (seed, epoch, example, unit).

    In evaluation there is one draw an example as well, the same at every evaluation of a run: the epoch is then a fixed number.
    """

    def forward(self, mean: Float[Tensor, "batch latent"], log_variance: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Returns the draw. Raises TrainingError where no keys are bound."""
        keys = self.bound_keys(len(mean), "the latent noise")
        return mean + (0.5 * log_variance).exp() * normals(self.words(keys, mean.shape[1])).to(mean.dtype)
