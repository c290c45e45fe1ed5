"""CIFAR residual networks of depth 6n + 2 (He et al. 2016, section 4.2), post-activation, as released with Hoffer et al. 2017."""

from __future__ import annotations

import functools

from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.norms import Norm, norm2d
from gapbench.workloads.models.residual import BasicBlock, check_images, convolution, stage, start_from_he


class ResNet(nn.Module):
    """A 3x3 stem of 16 channels, three stages of n blocks (16, 32, 64 channels), global average, Linear. 44 layers: 661,338 parameters.

    Convolutions start from He's normal distribution (variance 2 / fan-out), batch norm scales from 1. With `width` all channels
    are so many times as many, the stem's too: the wide network that was released with Hoffer et al. 2017.
    """

    def __init__(self, channels: int, classes: int, depth: int, *, width: int = 1, norm: Norm = "batch") -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        block = functools.partial(BasicBlock, norm=norm)
        narrow, middle, wide = 16 * width, 32 * width, 64 * width
        self.stem = nn.Sequential(convolution(channels, narrow, 3, norm), *norm2d(norm, narrow), nn.ReLU())
        self.stage1 = stage(block, narrow, narrow, blocks, stride=1)
        self.stage2 = stage(block, narrow, middle, blocks, stride=2)
        self.stage3 = stage(block, middle, wide, blocks, stride=2)
        self.output = nn.Linear(wide, classes)
        start_from_he(self)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        hidden = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.output(hidden.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def resnet(input_shape: tuple[int, ...], classes: int, *, depth: int = 44, norm: Norm = "batch") -> ResNet:
    """Builds the network. Raises TrainingError where depth is not 6n + 2 or the input is no image."""
    if depth < 8 or (depth - 2) % 6:
        raise TrainingError(f"model resnet: depth = {depth} is not 6n + 2; use 20, 32, 44, 56 or 110, for example")
    check_images("resnet", input_shape)
    return ResNet(input_shape[0], classes, depth, norm=norm)
