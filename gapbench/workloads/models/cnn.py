"""A small network, convolutions with max pooling and a hidden dense layer, no norm: MNIST and SVHN of McCandlish et al. 2018."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from gapbench.workloads.models.resnet import check_images, start_from_he


def cnn(input_shape: tuple[int, ...], classes: int, *, channels: Sequence[int] = (32, 64), units: int = 1024) -> nn.Sequential:
    """5x5 convolutions of the given channels, each with ReLU and 2x2 max pooling, then Linear of `units`, ReLU and Linear.

    Weights start from He's normal distribution (variance 2 / fan-in), biases from 0. No example depends on the others of its batch.
    Takes [batch, channels, height, width], returns logits [batch, classes]. 4,259,274 parameters on SVHN with two convolutions.

    Raises:
        TrainingError: the input is no image, or so small that nothing is left after pooling.
    """
    check_images("cnn", input_shape, minimum_side=2 ** len(channels))
    inputs, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for depth, outputs in enumerate(channels, start=1):
        layers[f"convolution{depth}"] = nn.Conv2d(inputs, outputs, kernel_size=5, padding=2)
        layers[f"relu{depth}"] = nn.ReLU()
        layers[f"pool{depth}"] = nn.MaxPool2d(2)
        inputs, height, width = outputs, height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(inputs * height * width, units)
    layers["relu"] = nn.ReLU()
    layers["output"] = nn.Linear(units, classes)
    network = nn.Sequential(layers)
    start_from_he(network, kinds=(nn.Conv2d, nn.Linear), mode="fan_in")
    return network
