"""Residual networks of bottleneck blocks for photographs: ResNet-50 and its like (He et al. 2016, table 1).

As in the code released with Hoffer et al. 2017, in Goyal et al. 2017 and in torchvision, a block halves the image in its 3x3 convolution
and not, as first published, in its first 1x1 convolution.
"""

from __future__ import annotations

import functools

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.workloads.models.residual import check_images, convolution, stage, start_from_he

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""By depth: blocks of each stage. 26 is no published network: a small one of the same kind."""
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm around a shortcut; the last one has four times the channels of the others."""

    def __init__(self, inputs: int, outputs: int, stride: int, zero_gamma: bool) -> None:
        super().__init__()
        width = outputs // EXPANSION
        self.conv1 = convolution(inputs, width, 1, "batch")
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, "batch", stride=stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, 1, "batch")
        self.norm3 = nn.BatchNorm2d(outputs)
        if zero_gamma:
            nn.init.zeros_(self.norm3.weight)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, "batch", stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, inputs: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height2 width2"]:
        """Returns relu(residual + shortcut)."""
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        hidden = F.relu(self.norm2(self.conv2(hidden)))
        return F.relu(self.norm3(self.conv3(hidden)) + self.shortcut(inputs))


class BottleneckResNet(nn.Module):
    """A 7x7 stem and 3x3 max pooling (each halves the image), four stages (256 to 2048 channels), global average, Linear.

    50 layers: 25,557,032 parameters with 1000 classes. Convolutions start from He's normal distribution (variance 2 / fan-out).
    """

    def __init__(self, channels: int, classes: int, depth: int, zero_gamma: bool) -> None:
        super().__init__()
        block = functools.partial(Bottleneck, zero_gamma=zero_gamma)
        self.stem = nn.Sequential(
            convolution(channels, 64, 7, "batch", stride=2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        blocks = BLOCKS[depth]
        self.stage1 = stage(block, 64, 256, blocks[0], stride=1)
        self.stage2 = stage(block, 256, 512, blocks[1], stride=2)
        self.stage3 = stage(block, 512, 1024, blocks[2], stride=2)
        self.stage4 = stage(block, 1024, 2048, blocks[3], stride=2)
        self.output = nn.Linear(2048, classes)
        start_from_he(self)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        hidden = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(images)))))
        return self.output(hidden.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def resnet_imagenet(input_shape: tuple[int, ...], classes: int, *, depth: int = 50, zero_gamma: bool = False) -> BottleneckResNet:
    """Builds the network.

    With `zero_gamma` the last batch norm of each block starts from scale 0, so that the block begins as its shortcut (Goyal et al. 2017,
    section 5.1). Raises TrainingError where there is no such depth or the input is no image.
    """
    if depth not in BLOCKS:
        raise TrainingError(f"model resnet-imagenet: there is no depth = {depth}; use {', '.join(map(str, BLOCKS))}")
    check_images("resnet-imagenet", input_shape)
    return BottleneckResNet(input_shape[0], classes, depth, zero_gamma)
