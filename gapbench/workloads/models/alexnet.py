"""AlexNet in the layout of Krizhevsky 2014 ("One weird trick", arXiv:1404.5997) with batch norm, as Hoffer et al. 2017 trained it.

Layers stand in the order of the authors' own code, which normalizes after the ReLU in all convolutions but the first.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from gapbench.layers.keyed import Dropout
from gapbench.workloads.models.resnet import check_images

MINIMUM_SIDE = 63
"""Below it the last pooling has nothing left."""
GRID = 6
"""Side of the last convolution's grid at 224 x 224; other images are averaged to it."""


class AlexNet(nn.Module):
    """Five convolutions (64, 192, 384, 256, 256 channels) and three dense layers; 224x224 -> 55 -> 27 -> 13 -> 6.

    61,110,184 parameters with 1000 classes. Torch's own initial weights.
    """

    def __init__(self, channels: int, classes: int, units: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, kernel_size=11, stride=4, padding=2, bias=False),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 192, kernel_size=5, padding=2, bias=False),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.ReLU(),
            nn.BatchNorm2d(192),
            nn.Conv2d(192, 384, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.BatchNorm2d(384),
            nn.Conv2d(384, 256, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.BatchNorm2d(256),
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.ReLU(),
            nn.BatchNorm2d(256),
        )
        # Left out where it would do nothing: its backward pass is not repeatable bit by bit on a GPU.
        self.pool = nn.Identity() if grid(side) == (GRID, GRID) else nn.AdaptiveAvgPool2d(GRID)
        self.classifier = nn.Sequential(
            nn.Linear(256 * GRID * GRID, units, bias=False),
            nn.BatchNorm1d(units),
            nn.ReLU(),
            Dropout(0.5),
            nn.Linear(units, units, bias=False),
            nn.BatchNorm1d(units),
            nn.ReLU(),
            Dropout(0.5),
            nn.Linear(units, classes),
        )

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        return self.classifier(self.pool(self.features(images)).flatten(1))  # type: ignore[no-any-return]


def alexnet(input_shape: tuple[int, ...], classes: int, *, units: int = 4096) -> AlexNet:
    """Builds the network, with `units` in each hidden dense layer. Raises TrainingError for images smaller than 63 x 63."""
    check_images("alexnet", input_shape, MINIMUM_SIDE)
    return AlexNet(input_shape[0], classes, units, (input_shape[1], input_shape[2]))


def grid(side: tuple[int, int]) -> tuple[int, int]:
    """Returns height and width of what the convolutions make of an image."""
    return _pooled(side[0]), _pooled(side[1])


def _pooled(length: int) -> int:
    length = (length + 2 * 2 - 11) // 4 + 1
    for _ in range(3):
        length = (length - 3) // 2 + 1
    return length
