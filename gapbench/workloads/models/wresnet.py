"""Wide residual networks for small images: as released with Hoffer et al. 2017, and as Zagoruyko and Komodakis 2016 wrote them.

The two differ in more than a detail, and the name alone does not say which one a result is of. The released one is the post-activation
network of He et al. with all channels multiplied, its stem's too: blocks of one shape start from a stem of 64 channels at width 4, at
depth 16 in three stages of two. The other one (arXiv:1605.07146, table 1) normalizes before it convolves and has a stem of 16.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.norms import Norm, norm2d
from gapbench.workloads.models.residual import BranchScale, check_images, convolution, one, stage, start_from_he
from gapbench.workloads.models.resnet import ResNet


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
