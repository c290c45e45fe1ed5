"""Sizes of the built-in models by formula: parameters, multiplications, activations; held equal to the live models by a test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """What one example costs in a model."""

    parameters: int = 0
    multiplications: int = 0
    """Multiply-adds of the forward pass."""
    activations: int = 0
    """Numbers that the backward pass needs kept."""

    def __add__(self, other: Size) -> Size:
        return Size(self.parameters + other.parameters, self.multiplications + other.multiplications, self.activations + other.activations)


def size_of(model: str, options: Mapping[str, Any], shape: Sequence[int], classes: int) -> Size | None:
    """Returns the size of a model, or None where it is not built in.

    Args:
        model: its name in the catalog.
        options: its options.
        shape: of an example: (height, width, channels) or (features,).
        classes: number of classes.
    """
    formula = _FORMULAS.get(model)
    return None if formula is None else formula(options, tuple(shape), classes)


def _mlp(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    return _hidden_layers(shape, options["widths"], bias=options["bias"], norm=options["norm"], classes=classes)


def _f1(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    return _hidden_layers(shape, [512] * 5, bias=True, norm=_norm_of(options), classes=classes)


def _hidden_layers(shape: tuple[int, ...], widths: Sequence[int], *, bias: bool, norm: str, classes: int) -> Size:
    inputs = math.prod(shape)
    total = Size(activations=inputs)
    for width in widths:
        total += _linear(inputs, width, bias=bias) + _norm(width, norm=norm) + _relu(width)
        inputs = width
    return total + _linear(inputs, classes, bias=True)


def _shallow(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, channels = shape
    norm = _norm_of(options)
    total = Size(activations=math.prod(shape))
    for inputs in (channels, 64):
        total += _convolution(inputs, 64, 5, height * width, bias=norm == "none")
        height, width = _pooled(height, 3), _pooled(width, 3)
        area = height * width
        total += _pooling(64 * area) + _norm(64, area, norm=norm) + _relu(64 * area)
    inputs = 64 * height * width
    for units in (384, 192):
        total += _linear(inputs, units, bias=norm == "none") + _norm(units, norm=norm) + _relu(units) + _dropout(units)
        inputs = units
    return total + _linear(inputs, classes, bias=True)


def _cnn(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, inputs = shape
    units = int(options["units"])
    total = Size(activations=math.prod(shape))
    for outputs in options["channels"]:
        total += _convolution(inputs, outputs, 5, height * width, bias=True) + _relu(outputs * height * width)
        inputs, height, width = outputs, height // 2, width // 2
        total += _pooling(inputs * height * width)
    return total + _linear(inputs * height * width, units, bias=True) + _relu(units) + _linear(units, classes, bias=True)


def _autoencoder(options: Mapping[str, Any], shape: tuple[int, ...], classes: int, *, variational: bool = False) -> Size:
    values, latent = math.prod(shape), int(options["latent"])
    sizes = [(shape[2], shape[0], shape[1])]
    total = Size(activations=2 * values)  # the images, for the first layer and for the loss
    for outputs in options["channels"]:
        inputs, height, width = sizes[-1]
        sizes.append((outputs, height // 2, width // 2))
        area = sizes[-1][1] * sizes[-1][2]
        total += _convolution(inputs, outputs, 4, area, bias=True) + _relu(outputs * area)
    units = math.prod(sizes[-1])
    total += _linear(units, 2 * latent if variational else latent, bias=True) + _linear(latent, units, bias=True)
    for (outputs, height, width), (inputs, below, left) in zip(reversed(sizes[:-1]), reversed(sizes[1:]), strict=True):
        back = _convolution(inputs, outputs, 4, 0, bias=True)  # transposed: every input meets the kernel once
        total += _relu(inputs * below * left) + Size(back.parameters, inputs * outputs * 16 * below * left, outputs * height * width)
    return total + Size(activations=6 * latent if variational else 0)


def _variational_autoencoder(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    return _autoencoder(options, shape, classes, variational=True)


def _resnet(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    return _postactivation(shape, classes, blocks=(int(options["depth"]) - 2) // 6, width=1, norm=_norm_of(options))


def _wresnet(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    blocks, width, norm = (int(options["depth"]) - 4) // 6, int(options["width"]), _norm_of(options)
    form = _postactivation if options.get("form", "released") == "released" else _preactivation
    return form(shape, classes, blocks=blocks, width=width, norm=norm)


def _postactivation(shape: tuple[int, ...], classes: int, *, blocks: int, width: int, norm: str) -> Size:
    height, side, channels = shape
    inputs = 16 * width
    total = Size(activations=math.prod(shape)) + _normalized(channels, inputs, 3, height * side, norm) + _relu(inputs * height * side)
    for outputs in (16 * width, 32 * width, 64 * width):
        for _ in range(blocks):
            if outputs != inputs:  # the first block of a stage: half the size, and a projection on the shortcut
                height, side = _halved(height), _halved(side)
                total += _normalized(inputs, outputs, 1, height * side, norm)
            area = height * side
            total += _normalized(inputs, outputs, 3, area, norm) + _branch_end(outputs, outputs, 3, area, norm)
            total += _relu(outputs * area) + _relu(outputs * area)
            inputs = outputs
    return total + _linear(inputs, classes, bias=True)


def _preactivation(shape: tuple[int, ...], classes: int, *, blocks: int, width: int, norm: str) -> Size:
    height, side, channels = shape
    bias = norm == "none"
    inputs = 16
    total = Size(activations=math.prod(shape)) + _convolution(channels, inputs, 3, height * side, bias=bias)
    for stage, outputs in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range(blocks):
            total += _norm(inputs, height * side, norm=norm) + _relu(inputs * height * side)
            if stage and not block:
                height, side = _halved(height), _halved(side)
            area = height * side
            if (stage and not block) or inputs != outputs:
                total += _convolution(inputs, outputs, 1, area, bias=bias)
            total += _normalized(inputs, outputs, 3, area, norm) + _relu(outputs * area)
            total += _convolution(outputs, outputs, 3, area, bias=bias) + (_scale(outputs * area) if bias else Size())
            inputs = outputs
    area = height * side
    return total + _norm(inputs, area, norm=norm) + _relu(inputs * area) + _linear(inputs, classes, bias=True)


_VGG_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def _vgg(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, inputs = shape
    norm, dropout = _norm_of(options), bool(options.get("dropout", False))
    total = Size(activations=math.prod(shape))
    for outputs, count in zip((64, 128, 256, 512, 512), _VGG_CONVOLUTIONS[int(options["depth"])], strict=True):
        units = outputs * height * width
        for position in range(count):
            total += _normalized(inputs, outputs, 3, height * width, norm) + _relu(units)
            total += _dropout(units) if dropout and position < count - 1 else Size()
            inputs = outputs
        height, width = height // 2, width // 2
        total += _pooling(outputs * height * width)
    total += Size(activations=512) + _linear(512, 512, bias=norm == "none") + _norm(512, norm=norm) + _relu(512)
    total += _dropout(512) + _dropout(512) if dropout else Size()
    return total + _linear(512, classes, bias=True)


def _alexnet(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, channels = shape
    units = int(options["units"])
    total = Size(activations=math.prod(shape))
    height, width = (height - 7) // 4 + 1, (width - 7) // 4 + 1
    layers = ((channels, 64, 11, True), (64, 192, 5, True), (192, 384, 3, False), (384, 256, 3, False), (256, 256, 3, True))
    for inputs, outputs, kernel, pooled in layers:
        total += _convolution(inputs, outputs, kernel, height * width)
        if pooled:
            height, width = _pooled(height, 3), _pooled(width, 3)
            total += _pooling(outputs * height * width)
        total += _norm(outputs, height * width) + _relu(outputs * height * width)
    for inputs in (256 * 6 * 6, units):
        total += _linear(inputs, units, bias=False) + _norm(units) + _relu(units) + _dropout(units)
    return total + _linear(units, classes, bias=True)


_BOTTLENECKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _resnet_imagenet(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, channels = _halved(shape[0]), _halved(shape[1]), shape[2]
    total = Size(activations=math.prod(shape)) + _normalized(channels, 64, 7, height * width) + _relu(64 * height * width)
    height, width = _halved(height), _halved(width)
    total += _pooling(64 * height * width)
    inputs = 64
    for stage, blocks in enumerate(_BOTTLENECKS[int(options["depth"])]):
        narrow, outputs = 64 * 2**stage, 256 * 2**stage
        for block in range(blocks):
            total += _normalized(inputs, narrow, 1, height * width) + _relu(narrow * height * width)
            if stage and not block:
                height, width = _halved(height), _halved(width)
            area = height * width
            total += _normalized(narrow, narrow, 3, area) + _relu(narrow * area)
            total += _normalized(narrow, outputs, 1, area) + _relu(outputs * area)
            if not block:
                total += _normalized(inputs, outputs, 1, area)
            inputs = outputs
    return total + _linear(inputs, classes, bias=True)


def _norm_of(options: Mapping[str, Any]) -> str:
    """Returns the option `norm`; runs that are older than it have batch norm."""
    return str(options.get("norm", "batch"))


def _halved(length: int) -> int:
    return (length + 1) // 2


def _pooled(length: int, kernel: int) -> int:
    return (length - kernel) // 2 + 1


def _linear(inputs: int, outputs: int, *, bias: bool) -> Size:
    return Size(inputs * outputs + (outputs if bias else 0), inputs * outputs, outputs)


def _convolution(inputs: int, outputs: int, kernel: int, area: int, *, bias: bool = False) -> Size:
    weights = inputs * outputs * kernel * kernel
    return Size(weights + (outputs if bias else 0), weights * area, outputs * area)


def _norm(features: int, area: int = 1, *, norm: str = "batch") -> Size:
    return Size() if norm == "none" else Size(2 * features, 0, features * area)


def _relu(units: int) -> Size:
    return Size(activations=units)


def _scale(units: int) -> Size:
    """The learned scalar at the end of a residual branch without norm."""
    return Size(1, 0, units)


def _dropout(units: int) -> Size:
    """A mask, and the units that are left."""
    return Size(activations=2 * units)


def _pooling(units: int) -> Size:
    """Values, and 64-bit places."""
    return Size(activations=3 * units)


def _normalized(inputs: int, outputs: int, kernel: int, area: int, norm: str = "batch") -> Size:
    return _convolution(inputs, outputs, kernel, area, bias=norm == "none") + _norm(outputs, area, norm=norm)


def _branch_end(inputs: int, outputs: int, kernel: int, area: int, norm: str) -> Size:
    return _normalized(inputs, outputs, kernel, area, norm) + (_scale(outputs * area) if norm == "none" else Size())


_FORMULAS: Mapping[str, Callable[[Mapping[str, Any], tuple[int, ...], int], Size]] = {
    "mlp": _mlp,
    "f1": _f1,
    "c1": _shallow,
    "c3": _shallow,
    "cnn": _cnn,
    "autoencoder": _autoencoder,
    "variational-autoencoder": _variational_autoencoder,
    "resnet": _resnet,
    "wresnet": _wresnet,
    "vgg": _vgg,
    "alexnet": _alexnet,
    "resnet-imagenet": _resnet_imagenet,
}
