from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from gapbench import catalog
from gapbench.core.registry import load_target
from gapbench.cost.architectures import size_of
from gapbench.layers.keyed import bind_keys

CASES = [
    ("mlp", {"widths": [128, 128, 128], "norm": "batch", "bias": False}, (8, 8, 1), 10),
    ("mlp", {"widths": [7, 5], "norm": "none", "bias": True}, (12,), 3),
    ("f1", {}, (28, 28, 1), 10),
    ("c1", {}, (32, 32, 3), 10),
    ("c3", {}, (32, 32, 3), 100),
    ("cnn", {"channels": [32, 64], "units": 1024}, (32, 32, 3), 10),
    ("autoencoder", {"channels": [32, 64], "latent": 128}, (32, 32, 3), 10),
    ("autoencoder", {"channels": [5, 7, 3], "latent": 11}, (17, 9, 1), 4),
    ("variational-autoencoder", {"channels": [32, 64], "latent": 32}, (32, 32, 3), 10),
    ("variational-autoencoder", {"channels": [4], "latent": 3}, (8, 7, 1), 10),
    ("cnn", {"channels": [5, 7, 3], "units": 11}, (17, 9, 1), 4),
    ("resnet", {"depth": 20}, (32, 32, 3), 10),
    ("resnet", {"depth": 8}, (9, 9, 1), 4),
    ("mlp", {"widths": [32, 9], "norm": "group", "bias": False}, (8, 8, 1), 10),
    ("f1", {"norm": "none"}, (8, 8, 1), 10),
    ("c1", {"norm": "group"}, (32, 32, 3), 10),
    ("c3", {"norm": "none"}, (32, 32, 3), 100),
    ("resnet", {"depth": 8, "norm": "group"}, (9, 9, 1), 4),
    ("resnet", {"depth": 14, "norm": "none"}, (32, 32, 3), 10),
    ("wresnet", {"depth": 16, "width": 4, "form": "released", "norm": "batch"}, (32, 32, 3), 100),
    ("wresnet", {"depth": 16, "width": 2, "form": "preactivation", "norm": "batch"}, (9, 12, 1), 7),
    ("wresnet", {"depth": 10, "width": 1, "form": "preactivation", "norm": "none"}, (9, 9, 3), 7),
    ("wresnet", {"depth": 10, "width": 2, "form": "released", "norm": "none"}, (32, 32, 3), 10),
    ("vgg", {"depth": 16, "dropout": False, "norm": "batch"}, (32, 32, 3), 10),
    ("vgg", {"depth": 11, "dropout": True, "norm": "none"}, (40, 64, 1), 10),
    ("alexnet", {"units": 4096}, (224, 224, 3), 1000),
    ("alexnet", {"units": 64}, (96, 63, 3), 10),
    ("resnet-imagenet", {"depth": 50, "zero_gamma": False}, (64, 64, 3), 1000),
    ("resnet-imagenet", {"depth": 26, "zero_gamma": True}, (45, 32, 1), 10),
]

COUNTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


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
        ("cnn", {"channels": [32, 64], "units": 1024}, (32, 32, 3), 10, 4_259_274),
        ("autoencoder", {"channels": [32, 64], "latent": 128}, (32, 32, 3), 10, 1_121_539),
        ("variational-autoencoder", {"channels": [32, 64], "latent": 32}, (32, 32, 3), 10, 466_115),
        ("resnet", {"depth": 44}, (32, 32, 3), 10, 661_338),
        ("wresnet", {"depth": 16, "width": 4}, (32, 32, 3), 100, 2_800_804),
        ("wresnet", {"depth": 16, "width": 4, "form": "preactivation"}, (32, 32, 3), 10, 2_748_890),
        ("vgg", {"depth": 16}, (32, 32, 3), 10, 14_987_210),
        ("alexnet", {"units": 4096}, (224, 224, 3), 1000, 61_110_184),
        ("resnet-imagenet", {"depth": 50}, (224, 224, 3), 1000, 25_557_032),
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
        assert isinstance(module, COUNTED)
        counted = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output  # transposed: each input meets the kernel once
        done += math.prod(counted.shape[1:]) * math.prod(module.weight.shape[1:])

    module = build(model, options, shape, classes).eval()
    for layer in module.modules():
        if isinstance(layer, COUNTED):
            layer.register_forward_hook(count)
    bind_keys(module, torch.arange(1))
    module(torch.zeros(1, shape[-1], *shape[:-1]))
    size = size_of(model, options, shape, classes)
    assert size is not None
    assert size.multiplications == done


@pytest.mark.parametrize(("model", "options", "shape", "classes"), CASES)
def test_activations_are_about_those_that_the_live_model_keeps(
    model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int
) -> None:
    """The slow way: autograd says what it keeps for the backward pass. The formula also counts what an operation writes and drops."""
    kept: dict[int, int] = {}
    module = build(model, options, shape, classes)
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes() // 4
            alive.append(tensor)  # so that no other tensor comes to lie at its place
        return tensor

    bind_keys(module, torch.arange(4))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(torch.rand(4, shape[-1], *shape[:-1]))
    size = size_of(model, options, shape, classes)
    assert size is not None
    assert 0.45 < sum(kept.values()) / 4 / size.activations < 1.05


def test_models_of_plugins_are_unknown() -> None:
    assert size_of("somebody's", {}, (8, 8, 1), 10) is None
