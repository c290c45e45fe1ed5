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
    return _hidden_layers(shape, options["widths"], bias=options["bias"], norm=options["norm"] == "batch", classes=classes)


def _f1(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    return _hidden_layers(shape, [512] * 5, bias=True, norm=True, classes=classes)


def _hidden_layers(shape: tuple[int, ...], widths: Sequence[int], *, bias: bool, norm: bool, classes: int) -> Size:
    inputs = math.prod(shape)
    total = Size(activations=inputs)
    for width in widths:
        total += _linear(inputs, width, bias=bias) + _relu(width)
        if norm:
            total += _norm(width)
        inputs = width
    return total + _linear(inputs, classes, bias=True)


def _shallow(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, channels = shape
    total = Size(activations=math.prod(shape))
    for inputs in (channels, 64):
        total += _convolution(inputs, 64, 5, height * width)
        height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
        area = height * width
        total += Size(activations=3 * 64 * area) + _norm(64, area) + _relu(64 * area)  # pooling keeps values and 64-bit places
    inputs = 64 * height * width
    for units in (384, 192):
        total += _linear(inputs, units, bias=False) + _norm(units) + _relu(units) + Size(activations=units)  # and a dropout mask
        inputs = units
    return total + _linear(inputs, classes, bias=True)


def _resnet(options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    height, width, channels = shape
    blocks = (int(options["depth"]) - 2) // 6
    total = Size(activations=math.prod(shape)) + _normalized(channels, 16, 3, height * width) + _relu(16 * height * width)
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range(blocks):
            if outputs != inputs:  # the first block of a stage: half the size, and a projection on the shortcut
                height, width = (height + 1) // 2, (width + 1) // 2
                total += _normalized(inputs, outputs, 1, height * width)
            area = height * width
            total += _normalized(inputs, outputs, 3, area) + _normalized(outputs, outputs, 3, area)
            total += _relu(outputs * area) + _relu(outputs * area)
            inputs = outputs
    return total + _linear(inputs, classes, bias=True)


def _linear(inputs: int, outputs: int, *, bias: bool) -> Size:
    return Size(inputs * outputs + (outputs if bias else 0), inputs * outputs, outputs)


def _convolution(inputs: int, outputs: int, kernel: int, area: int) -> Size:
    weights = inputs * outputs * kernel * kernel
    return Size(weights, weights * area, outputs * area)


def _norm(features: int, area: int = 1) -> Size:
    return Size(2 * features, 0, features * area)


def _relu(units: int) -> Size:
    return Size(activations=units)


def _normalized(inputs: int, outputs: int, kernel: int, area: int) -> Size:
    return _convolution(inputs, outputs, kernel, area) + _norm(outputs, area)


_FORMULAS: Mapping[str, Callable[[Mapping[str, Any], tuple[int, ...], int], Size]] = {
    "mlp": _mlp,
    "f1": _f1,
    "c1": _shallow,
    "c3": _shallow,
    "resnet": _resnet,
}
