"""CIFAR residual networks of depth 6n + 2 (He et al. 2016, section 4.2), post-activation, as released with Hoffer et al. 2017."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut; where the shape changes the shortcut is a 1x1 convolution with batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, inputs: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height2 width2"]:
        """Returns relu(residual + shortcut)."""
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class ResNet(nn.Module):
    """A 3x3 stem of 16 channels, three stages of n blocks (16, 32, 64 channels), global average, Linear. 44 layers: 661,338 parameters.

    Convolutions start from He's normal distribution (variance 2 / fan-out), batch norm scales from 1.
    """

    def __init__(self, channels: int, classes: int, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1 = _stage(16, 16, blocks, stride=1)
        self.stage2 = _stage(16, 32, blocks, stride=2)
        self.stage3 = _stage(32, 64, blocks, stride=2)
        self.output = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        hidden = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.output(hidden.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def resnet(input_shape: tuple[int, ...], classes: int, *, depth: int = 44) -> ResNet:
    """Builds the network. Raises TrainingError where depth is not 6n + 2 or the input is no image."""
    if depth < 8 or (depth - 2) % 6:
        raise TrainingError(f"model resnet: depth = {depth} is not 6n + 2; use 20, 32, 44, 56 or 110, for example")
    if len(input_shape) != 3:
        raise TrainingError("model resnet takes images [channels, height, width]; use mlp for feature vectors")
    return ResNet(input_shape[0], classes, depth)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
