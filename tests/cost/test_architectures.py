from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from gapbench import catalog
from gapbench.core.registry import load_target
from gapbench.cost.architectures import size_of

CASES = [
    ("mlp", {"widths": [128, 128, 128], "norm": "batch", "bias": False}, (8, 8, 1), 10),
    ("mlp", {"widths": [7, 5], "norm": "none", "bias": True}, (12,), 3),
    ("f1", {}, (28, 28, 1), 10),
    ("c1", {}, (32, 32, 3), 10),
    ("c3", {}, (32, 32, 3), 100),
    ("resnet", {"depth": 20}, (32, 32, 3), 10),
    ("resnet", {"depth": 8}, (9, 9, 1), 4),
]


def build(model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    channels_first = (shape[-1], *shape[:-1])
    module: nn.Module = load_target(catalog.models()[model].target)(channels_first, classes, **options)
    return module


@pytest.mark.parametrize(
    ("model", "options", "shape", "classes", "parameters"),
    [
        ("f1", {}, (28, 28, 1), 10, 1_462_794),
        ("c1", {}, (32, 32, 3), 10, 1_388_490),
        ("c3", {}, (32, 32, 3), 100, 1_405_860),
        ("resnet", {"depth": 44}, (32, 32, 3), 10, 661_338),
    ],
)
def test_parameter_counts_are_those_of_the_paper(
    model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int, parameters: int
) -> None:
    size = size_of(model, options, shape, classes)
    assert size is not None
    assert size.parameters == parameters


@pytest.mark.parametrize(("model", "options", "shape", "classes"), CASES)
def test_parameters_are_those_of_the_live_model(model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> None:
    size = size_of(model, options, shape, classes)
    assert size is not None
    assert size.parameters == sum(parameter.numel() for parameter in build(model, options, shape, classes).parameters())


@pytest.mark.parametrize(("model", "options", "shape", "classes"), CASES)
def test_multiplications_are_those_that_the_live_model_does(
    model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int
) -> None:
    """The slow way: what every Linear and convolution does is counted while the model runs."""
    done = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal done
        assert isinstance(module, nn.Linear | nn.Conv2d)
        done += math.prod(output.shape[1:]) * math.prod(module.weight.shape[1:])

    module = build(model, options, shape, classes).eval()
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(count)
    module(torch.zeros(1, shape[-1], *shape[:-1]))
    size = size_of(model, options, shape, classes)
    assert size is not None
    assert size.multiplications == done


def test_models_of_plugins_are_unknown() -> None:
    assert size_of("somebody's", {}, (8, 8, 1), 10) is None
