"""A model is counted by running it where tensors have no numbers; the counts that are shipped are those of today's models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
import torch
from torch import nn

import gapbench
from gapbench import catalog
from gapbench.core.registry import load_target
from gapbench.layers.keyed import bind_keys
from gapbench.sizing.sizes import Counted, Size
from gapbench.workloads.counting import answers, count, shipped

CASES = [
    ("mlp", {"widths": [7, 5], "norm": "none", "bias": True}, (12,), 3),
    ("c1", {"norm": "group"}, (32, 32, 3), 10),
    ("autoencoder", {"channels": [5, 7, 3], "latent": 11}, (17, 9, 1), 4),
    ("variational-autoencoder", {"channels": [4], "latent": 3}, (8, 7, 1), 10),
    ("cnn", {"channels": [5, 7, 3], "units": 11}, (17, 9, 1), 4),
    ("resnet", {"depth": 14, "norm": "none"}, (32, 32, 3), 10),
    ("wresnet", {"depth": 16, "width": 2, "form": "preactivation", "norm": "batch"}, (9, 12, 1), 7),
    ("vgg", {"depth": 11, "dropout": True, "norm": "none"}, (40, 64, 1), 10),
    ("alexnet", {"units": 64}, (96, 63, 3), 10),
    ("resnet-imagenet", {"depth": 26, "zero_gamma": True}, (45, 32, 1), 10),
]

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def counted(model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> Size:
    return count(Counted(model, 1, options, shape, classes))[0]


def build(model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    module: nn.Module = load_target(catalog.models()[model].target)((shape[-1], *shape[:-1]), classes, **options)
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
    assert counted(model, options, shape, classes).parameters == parameters


@pytest.mark.parametrize(("model", "options", "shape", "classes"), CASES)
def test_multiplications_are_those_that_the_layers_do(model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> None:
    """The slow way: what every Linear and convolution does is counted while the model runs."""
    done = 0

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal done
        assert isinstance(module, LAYERS)
        met = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output  # transposed: each input meets the kernel once
        done += math.prod(met.shape[1:]) * math.prod(module.weight.shape[1:])

    module = build(model, options, shape, classes).eval()
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_hook(note)
    bind_keys(module, torch.arange(1))
    module(torch.zeros(1, shape[-1], *shape[:-1]))
    assert counted(model, options, shape, classes).multiplications == done


@pytest.mark.parametrize(("model", "options", "shape", "classes"), CASES)
def test_activations_are_at_least_those_that_are_kept(model: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> None:
    """The slow way: autograd says what it keeps for the backward pass. Counted is also what an operation writes and drops."""
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
    assert 0.45 < sum(kept.values()) / 4 / counted(model, options, shape, classes).activations < 1.05


def test_sizes_by_hand() -> None:
    """Two dense layers: the inputs, then what each Linear, batch norm and ReLU writes."""
    size = counted("mlp", {"widths": [8], "norm": "batch", "bias": False}, (4, 4, 1), 3)
    weights = {"parameters": 16 * 8 + 2 * 8 + 8 * 3 + 3, "multiplications": 16 * 8 + 8 * 3, "layers": 2}
    assert size == Size(**weights, activations=16 + 3 * 8 + 3, recomputed=0)
    assert size.training_flops(10) == 6 * 10 * size.multiplications
    assert size.evaluation_flops(10) == 2 * 10 * size.multiplications


def test_recomputed_blocks_keep_their_inputs_and_one_of_them_all() -> None:
    """ResNet-8 has three blocks: of 16, 32 and 64 channels at 32, 16 and 8 pixels a side."""
    size = counted("resnet", {"depth": 8, "norm": "batch"}, (32, 32, 3), 10)
    largest = 6 * 16 * 32 * 32  # its input, what two convolutions, two norms and a ReLU write
    within = [largest, *(side * side * (channels // 2 * 4 + 8 * channels) for side, channels in ((16, 32), (8, 64)))]
    assert size.activations > size.recomputed >= max(within)
    assert counted("resnet", {"depth": 44, "norm": "batch"}, (32, 32, 3), 10).recomputed < size.recomputed * 1.5


def test_the_counts_that_are_shipped_are_those_of_the_models() -> None:
    """After a change of a model: python -m gapbench.workloads.counting --shipped > gapbench/catalog/sizes.json"""
    text = resources.files("gapbench.catalog").joinpath("sizes.json").read_text(encoding="utf-8")
    kept = {json.dumps(entry["model"], sort_keys=True): entry["size"] for entry in json.loads(text)}
    found = {}
    for one, answer in zip(shipped(), answers(shipped()), strict=True):
        model = {"model": one.model, "version": one.version, "options": one.options, "shape": one.shape, "classes": one.classes}
        found[json.dumps(model, sort_keys=True)] = answer["size"]
    assert found == kept


@pytest.fixture
def own() -> Iterator[Callable[[Callable[..., nn.Module]], Counted]]:
    """Registers a model for the length of a test."""

    def register(build: Callable[..., nn.Module]) -> Counted:
        gapbench.model(name=build.__name__)(build)
        return Counted(build.__name__, 1, {}, (4,), 3)

    return register


def scaled_by_its_data(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Looks at a number."""

    class Scaled(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * float(1.0 + inputs.mean())

    return Scaled(input_shape[0], classes)


def refuses(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Cannot be built."""
    raise ValueError("not today")


def test_a_model_that_needs_numbers_is_counted_on_the_cpu_and_says_so(own: Callable[..., Counted]) -> None:
    size, note = count(own(scaled_by_its_data))
    assert (size.parameters, size.multiplications) == (15, 12)
    assert "counted on the CPU" in note


def test_a_model_that_cannot_be_built_has_no_size_but_a_reason(own: Callable[..., Counted]) -> None:
    assert answers([own(refuses)]) == [{"error": "ValueError: not today"}]


def test_counting_draws_nothing_from_the_state_of_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    counted("mlp", {"widths": [8], "norm": "batch", "bias": False}, (4, 4, 1), 3)
    assert torch.equal(before, torch.random.get_rng_state())
