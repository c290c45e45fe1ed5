"""CIFAR residual networks of depth 6n + 2 (He et al. 2016, section 4.2), post-activation, as released with Hoffer et al. 2017."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.norms import Norm, norm2d

# What the families of residual networks share: blocks with and without norm, stages, initial weights.
#
# Without norm a residual network needs what batch norm did to it at the start: branches that are small beside the shortcut. Each branch
# then ends in a learned scalar that begins at 0, so that every block begins as its shortcut (SkipInit: De and Smith 2020,
# arXiv:2002.10444), and the shift of a norm becomes a bias of its convolution.


class BranchScale(nn.Module):
    """The learned scalar at the end of a residual branch without norm; 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, branch: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Returns the scaled branch."""
        return branch * self.weight


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norm around a shortcut; where the shape changes the shortcut is a 1x1 convolution with norm.

    The post-activation form of He et al. 2016. Without norm the branch ends in a learned scalar.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3, norm, stride=stride)
        self.norm1 = one(norm2d(norm, outputs))
        self.conv2 = convolution(outputs, outputs, 3, norm)
        self.norm2 = one(norm2d(norm, outputs) or [BranchScale()])
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, norm, stride=stride), *norm2d(norm, outputs))

    def forward(self, inputs: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height2 width2"]:
        """Returns relu(residual + shortcut)."""
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


def convolution(inputs: int, outputs: int, kernel: int, norm: Norm, *, stride: int = 1) -> nn.Conv2d:
    """Returns a convolution that keeps the size of an image, or divides it by the stride; it has a bias where no norm follows."""
    return nn.Conv2d(inputs, outputs, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=norm == "none")


def one(layers: list[nn.Module]) -> nn.Module:
    """Returns the only layer of a list, or one that does nothing."""
    return layers[0] if layers else nn.Identity()


def stage(block: Callable[[int, int, int], nn.Module], inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Returns blocks one after another, of which the first changes channels and size."""
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(blocks - 1)))


def start_from_he(
    network: nn.Module,
    *,
    kinds: tuple[type[nn.Conv2d | nn.Linear], ...] = (nn.Conv2d,),
    mode: Literal["fan_in", "fan_out"] = "fan_out",
) -> None:
    """Gives layers of these kinds He's normal distribution (He et al. 2015; variance 2 / fan-out or fan-in) and no bias."""
    for module in network.modules():
        if isinstance(module, kinds):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_images(name: str, input_shape: tuple[int, ...], minimum_side: int = 1) -> None:
    """Raises TrainingError where the input is no image, or one that is too small for a model."""
    if len(input_shape) != 3:
        raise TrainingError(f"model {name} takes images [channels, height, width]; use mlp for feature vectors")
    if min(input_shape[1:]) < minimum_side:
        raise TrainingError(
            f"model {name} takes images of at least {minimum_side} x {minimum_side}, not {input_shape[1]} x {input_shape[2]}; "
            "choose another model"
        )


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


# Wide residual networks for small images: as released with Hoffer et al. 2017, and as Zagoruyko and Komodakis 2016 wrote them.
#
# The two differ in more than a detail, and the name alone does not say which one a result is of. The released one is the post-activation
# network of He et al. with all channels multiplied, its stem's too: blocks of one shape start from a stem of 64 channels at width 4, at
# depth 16 in three stages of two. The other one (arXiv:1605.07146, table 1) normalizes before it convolves and has a stem of 16.


class PreactivationBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, added to a shortcut that no ReLU follows (He et al. 2016, arXiv:1603.05027).

    Where the shape changes the shortcut is a 1x1 convolution of the normalized input. Without norm the branch ends in a learned scalar.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.norm1 = one(norm2d(norm, inputs))
        self.conv1 = convolution(inputs, outputs, 3, norm, stride=stride)
        self.norm2 = one(norm2d(norm, outputs))
        self.conv2 = convolution(outputs, outputs, 3, norm)
        self.scale = BranchScale() if norm == "none" else nn.Identity()
        self.shortcut = convolution(inputs, outputs, 1, norm, stride=stride) if stride != 1 or inputs != outputs else None

    def forward(self, inputs: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height2 width2"]:
        """Returns residual + shortcut."""
        active = F.relu(self.norm1(inputs))
        residual = self.scale(self.conv2(F.relu(self.norm2(self.conv1(active)))))
        return residual + (inputs if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """A 3x3 stem of 16 channels, three stages of n blocks (16, 32, 64 times the width), norm, ReLU, global average, Linear.

    WRN-16-4 has 2,748,890 parameters with 10 classes, 2,772,020 with 100. Initial weights as those of `ResNet`.
    """

    def __init__(self, channels: int, classes: int, depth: int, width: int, norm: Norm) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        block = functools.partial(PreactivationBlock, norm=norm)
        self.stem = convolution(channels, 16, 3, norm)
        self.stage1 = stage(block, 16, 16 * width, blocks, stride=1)
        self.stage2 = stage(block, 16 * width, 32 * width, blocks, stride=2)
        self.stage3 = stage(block, 32 * width, 64 * width, blocks, stride=2)
        self.norm = one(norm2d(norm, 64 * width))
        self.output = nn.Linear(64 * width, classes)
        start_from_he(self)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Returns logits."""
        hidden = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.output(F.relu(self.norm(hidden)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def wresnet(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 16,
    width: int = 4,
    form: Literal["released", "preactivation"] = "released",
    norm: Norm = "batch",
) -> ResNet | WideResNet:
    """Builds the network: depth 6n + 4, channels multiplied by `width`.

    `form` "released" is the post-activation network in the code of Hoffer et al. 2017 (16-4 with 100 classes: 2,800,804 parameters),
    "preactivation" that of Zagoruyko and Komodakis. Raises TrainingError where depth is not 6n + 4 or the input is no image.
    """
    if depth < 10 or (depth - 4) % 6:
        raise TrainingError(f"model wresnet: depth = {depth} is not 6n + 4; use 16, 22, 28 or 40, for example")
    check_images("wresnet", input_shape)
    if form == "released":
        return ResNet(input_shape[0], classes, depth - 2, width=width, norm=norm)  # depth 6n + 2: without shortcuts
    return WideResNet(input_shape[0], classes, depth, width, norm)


# Residual networks of bottleneck blocks for photographs: ResNet-50 and its like (He et al. 2016, table 1).
#
# As in the code released with Hoffer et al. 2017, in Goyal et al. 2017 and in torchvision, a block halves the image in its 3x3 convolution
# and not, as first published, in its first 1x1 convolution.

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
