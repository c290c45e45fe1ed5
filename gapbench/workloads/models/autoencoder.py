"""Autoencoder and variational autoencoder of images: the generative workloads of McCandlish et al. 2018, whose sizes are not known to us.

Both have the loss within: `forward` returns [batch, 1], each example's loss in nats. The decoder's outputs are means of normal
distributions of variance 1, in units of the normalized inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from gapbench.layers.keyed import LatentNoise
from gapbench.workloads.models.resnet import check_images

LOG_TWO_PI = math.log(2 * math.pi)


class Autoencoder(nn.Module):
    """4x4 convolutions of stride 2 with ReLU, Linear to the code; Linear and as many transposed convolutions back.

    The loss of an example is half the squared error, summed over its pixels and channels: the negative logarithm of a normal density of
    variance 1, without its constant. Torch's own initial weights.
    """

    def __init__(self, input_shape: tuple[int, ...], channels: Sequence[int], latent: int, *, code: int | None = None) -> None:
        super().__init__()
        inputs, height, width = input_shape
        sizes = [(inputs, height, width)]
        encoder: list[nn.Module] = []
        for outputs in channels:
            encoder += [nn.Conv2d(sizes[-1][0], outputs, kernel_size=4, stride=2, padding=1), nn.ReLU()]
            sizes.append((outputs, sizes[-1][1] // 2, sizes[-1][2] // 2))
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(math.prod(sizes[-1]), code or latent))
        decoder: list[nn.Module] = [nn.Linear(latent, math.prod(sizes[-1])), nn.Unflatten(1, sizes[-1])]
        for (outputs, height, width), (narrow, *_) in zip(reversed(sizes[:-1]), reversed(sizes[1:]), strict=True):
            odd = (height % 2, width % 2)  # what halving dropped
            decoder += [nn.ReLU(), nn.ConvTranspose2d(narrow, outputs, kernel_size=4, stride=2, padding=1, output_padding=odd)]
        self.decoder = nn.Sequential(*decoder)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1"]:
        """Returns the loss of each example, in nats."""
        return half_squared_error(self.decoder(self.encoder(images)), images)


class VariationalAutoencoder(Autoencoder):
    """The same with a normal distribution as the code (Kingma and Welling 2014, arXiv:1312.6114): diagonal, prior standard normal.

    The loss of an example is the negative evidence lower bound: minus the log density of the image at one draw of the code, plus the
    divergence of the code's distribution from the prior in closed form. The draw is a hash of seed, epoch and example.
    """

    def __init__(self, input_shape: tuple[int, ...], channels: Sequence[int], latent: int) -> None:
        super().__init__(input_shape, channels, latent, code=2 * latent)
        self.noise = LatentNoise()

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1"]:
        """Returns the loss of each example, in nats."""
        mean, log_variance = self.encoder(images).float().chunk(2, dim=1)
        reconstruction = self.decoder(self.noise(mean, log_variance))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1, keepdim=True)
        constant = 0.5 * LOG_TWO_PI * images[0].numel()
        return half_squared_error(reconstruction, images) + constant + divergence  # type: ignore[no-any-return]


def half_squared_error(
    reconstruction: Float[Tensor, "batch channels height width"], images: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch 1"]:
    """Returns half the squared error of each example, in fp32."""
    return 0.5 * (reconstruction.float() - images.float()).square().flatten(1).sum(dim=1, keepdim=True)


def autoencoder(input_shape: tuple[int, ...], classes: int, *, channels: Sequence[int] = (32, 64), latent: int = 128) -> Autoencoder:
    """Builds the autoencoder; labels are not used. Raises TrainingError where the input is no image, or too small to be halved."""
    check_images("autoencoder", input_shape, minimum_side=2 ** len(channels))
    return Autoencoder(input_shape, channels, latent)


def variational_autoencoder(
    input_shape: tuple[int, ...], classes: int, *, channels: Sequence[int] = (32, 64), latent: int = 32
) -> VariationalAutoencoder:
    """Builds the variational autoencoder; labels are not used. Raises TrainingError as `autoencoder`."""
    check_images("variational-autoencoder", input_shape, minimum_side=2 ** len(channels))
    return VariationalAutoencoder(input_shape, channels, latent)
