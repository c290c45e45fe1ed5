"""VGG networks for small images: the convolutions of Simonyan and Zisserman 2015 (arXiv:1409.1556, table 1) and one hidden dense layer.

Hoffer et al. 2017 do not say which VGG they trained, and it is not in their code. Depth 16 with batch norm and dropout is C2 and C4 of
Keskar et al. 2017 (appendix B), whose other networks (F1, C1, C3) they took over: 2 x 64, 2 x 128, 3 x 256, 3 x 512, 3 x 512, Dense 512.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.keyed import Dropout
from gapbench.layers.norms import Norm, norm1d, norm2d
from gapbench.workloads.models.resnet import check_images, convolution, start_from_he

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""By depth: 3x3 convolutions of each stage. The depth counts the three dense layers of the original; here there are two."""
MINIMUM_SIDE = 32
"""Five stages halve an image five times."""
FIRST_DROPOUT, STAGE_DROPOUT, DENSE_DROPOUT = 0.3, 0.4, 0.5
"""As in Keskar's code: in the first stage, in the others, around the hidden dense layer."""


class VGG(nn.Module):
    """Stages of 3x3 convolutions with norm and ReLU, each ended by 2x2 max pooling; global average, a dense layer of 512, Linear.

    With `dropout`, units are dropped after every convolution but the last of a stage, and before and after the hidden dense layer.
    Weights start from He's normal distribution (variance 2 / fan-in), so that the network also trains without norm.
    """

    def __init__(self, channels: int, classes: int, depth: int, *, dropout: bool, norm: Norm) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features(channels, CONVOLUTIONS[depth], dropout, norm))
        self.classifier = nn.Sequential(
            *_dropped(DENSE_DROPOUT, dropout),
            nn.Linear(CHANNELS[-1], 512, bias=norm == "none"),
            *norm1d(norm, 512),
            nn.ReLU(),
            *_dropped(DENSE_DROPOUT, dropout),
            nn.Linear(512, classes),
        )
        start_from_he(self, kinds=(nn.Conv2d, nn.Linear), mode="fan_in")

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def vgg(input_shape: tuple[int, ...], classes: int, *, depth: int = 16, dropout: bool = False, norm: Norm = "batch") -> VGG:
    """Builds the network. Raises TrainingError where there is no such depth or images are smaller than 32 x 32."""
    if depth not in CONVOLUTIONS:
        raise TrainingError(f"model vgg: there is no depth = {depth}; use {', '.join(map(str, CONVOLUTIONS))}")
    check_images("vgg", input_shape, MINIMUM_SIDE)
    return VGG(input_shape[0], classes, depth, dropout=dropout, norm=norm)


def _features(inputs: int, convolutions: tuple[int, ...], dropout: bool, norm: Norm) -> Iterator[nn.Module]:
    for position, (outputs, count) in enumerate(zip(CHANNELS, convolutions, strict=True)):
        for last in (*(False,) * (count - 1), True):
            yield convolution(inputs, outputs, 3, norm)
            yield from norm2d(norm, outputs)
            yield nn.ReLU()
            yield from _dropped(STAGE_DROPOUT if position else FIRST_DROPOUT, dropout and not last)
            inputs = outputs
        yield nn.MaxPool2d(kernel_size=2)


def _dropped(probability: float, dropout: bool) -> list[nn.Module]:
    return [Dropout(probability)] if dropout else []
