"""C1 and C3 of Keskar et al. 2017 (appendix B), as in the code released with Hoffer et al. 2017."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.keyed import Dropout
from gapbench.layers.norms import Norm, norm1d, norm2d


class ShallowConvNet(nn.Module):
    """Two 5x5 convolutions and three dense layers: C1 (10 classes, 1,388,490 parameters) and C3 (100 classes, 1,405,860).

    Each convolution is followed by 3x3 max pooling, batch norm and ReLU, as in the code released with Hoffer et al. 2017
    (Keskar's own code normalizes before it pools). 32x32 -> 15x15 -> 7x7. Without norm, its shift becomes a bias of the layer before.
    """

    def __init__(self, classes: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=5, padding=2, bias=bias),
            nn.MaxPool2d(kernel_size=3, stride=2),
            *norm2d(norm, 64),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=5, padding=2, bias=bias),
            nn.MaxPool2d(kernel_size=3, stride=2),
            *norm2d(norm, 64),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(64 * 7 * 7, 384, bias=bias),
            *norm1d(norm, 384),
            nn.ReLU(),
            Dropout(0.5),
            nn.Linear(384, 192, bias=bias),
            *norm1d(norm, 192),
            nn.ReLU(),
            Dropout(0.5),
            nn.Linear(192, classes),
        )

    def forward(self, images: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        return self.classifier(self.features(images).flatten(1))  # type: ignore[no-any-return]


def c1(input_shape: tuple[int, ...], classes: int, *, norm: Norm = "batch") -> ShallowConvNet:
    """C1: the network for CIFAR-10. Raises TrainingError for images other than 3 x 32 x 32."""
    return _shallow("c1", input_shape, classes, norm)


def c3(input_shape: tuple[int, ...], classes: int, *, norm: Norm = "batch") -> ShallowConvNet:
    """C3: the network for CIFAR-100. Raises TrainingError for images other than 3 x 32 x 32."""
    return _shallow("c3", input_shape, classes, norm)


def _shallow(name: str, input_shape: tuple[int, ...], classes: int, norm: Norm) -> ShallowConvNet:
    if tuple(input_shape) != (3, 32, 32):
        raise TrainingError(
            f"model {name} takes images of 3 x 32 x 32 (CIFAR), not {' x '.join(map(str, input_shape))}; choose another model"
        )
    return ShallowConvNet(classes, norm)
