"""What the families of residual networks share: blocks with and without norm, stages, initial weights.

Without norm a residual network needs what batch norm did to it at the start: branches that are small beside the shortcut. Each branch
then ends in a learned scalar that begins at 0, so that every block begins as its shortcut (SkipInit: De and Smith 2020,
arXiv:2002.10444), and the shift of a norm becomes a bias of its convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.norms import Norm, norm2d


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


def start_from_he(network: nn.Module) -> None:
    """Gives convolutions He's normal distribution (variance 2 / fan-out) and no bias; norms start from scale 1."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
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
