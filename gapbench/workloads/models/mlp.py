"""Dense networks: a free-width MLP and F1 of Keskar et al. 2017 (appendix B.1), used on MNIST by Hoffer et al. 2017."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from gapbench.layers.norms import Norm, norm1d
from gapbench.workloads.models.resnet import start_from_he


def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    widths: Sequence[int] = (128, 128, 128),
    norm: Norm = "batch",
    bias: bool = False,
) -> nn.Sequential:
    """Hidden layers of Linear, norm, ReLU with the given widths, then Linear with bias to the classes.

    Weights are drawn from the normal distribution of He et al. 2015 (variance 2 / fan-in), the last layer's too.
    `bias` is that of the hidden layers. Takes [batch, ...] of `input_shape`, returns logits [batch, classes].
    """
    network = _dense(input_shape, classes, widths, norm=norm, bias=bias)
    start_from_he(network, kinds=(nn.Linear,), mode="fan_in")
    return network


def f1(input_shape: tuple[int, ...], classes: int, *, norm: Norm = "batch") -> nn.Sequential:
    """F1: five hidden layers of 512 with biases, batch norm and ReLU; 1,462,794 parameters on MNIST. Torch's own initial weights."""
    return _dense(input_shape, classes, (512,) * 5, norm=norm, bias=True)


def _dense(input_shape: tuple[int, ...], classes: int, widths: Sequence[int], *, norm: Norm, bias: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(input_shape)
    for depth, width in enumerate(widths, start=1):
        layers[f"linear{depth}"] = nn.Linear(inputs, width, bias=bias)
        for layer in norm1d(norm, width):
            layers[f"norm{depth}"] = layer
        layers[f"relu{depth}"] = nn.ReLU()
        inputs = width
    layers["output"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
