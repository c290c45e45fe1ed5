"""Networks layer by layer: parameter counts, shapes and initial weights as published."""

import math

import pytest
import torch
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.layers.keyed import bind_keys
from gapbench.workloads.models.mlp import f1, mlp
from gapbench.workloads.models.resnet import resnet
from gapbench.workloads.models.shallow_conv import c1, c3


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (f1((1, 28, 28), 10), 1_462_794),
        (c1((3, 32, 32), 10), 1_388_490),
        (c3((3, 32, 32), 100), 1_405_860),
        (resnet((3, 32, 32), 10, depth=44), 661_338),
        (mlp((1, 8, 8), 10), 64 * 128 + 2 * 128 * 128 + 3 * 256 + 128 * 10 + 10),
    ],
    ids=["f1", "c1", "c3", "resnet44", "digits"],
)
def test_parameter_count(model, count):
    assert parameters(model) == count


@pytest.mark.parametrize("depth", [20, 44, 110])
def test_resnet_has_as_many_layers_as_its_depth_says(depth):
    model = resnet((3, 32, 32), 10, depth=depth)
    main_path = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name]
    assert len(main_path) == depth


def test_resnet44_starts_at_the_published_distance_from_zero():
    torch.manual_seed(0)
    norm = math.sqrt(sum(parameter.square().sum().item() for parameter in resnet((3, 32, 32), 10, depth=44).parameters()))
    assert norm == pytest.approx(69, abs=2)  # computed for the released code's initial weights


def test_c1_shrinks_images_to_15_and_7():
    model = c1((3, 32, 32), 10)
    sizes = []
    for module in model.features:
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(lambda _module, _inputs, outputs: sizes.append(tuple(outputs.shape[2:])))
    bind_keys(model, torch.arange(2))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert sizes == [(15, 15), (7, 7)]


@pytest.mark.parametrize(("norm", "layers"), [("batch", 3), ("none", 0)])
def test_mlp_has_norm_only_where_asked(norm, layers):
    model = mlp((1, 8, 8), 10, norm=norm)
    assert sum(isinstance(module, nn.BatchNorm1d) for module in model.modules()) == layers
    assert [module.bias is not None for module in model.modules() if isinstance(module, nn.Linear)] == [False, False, False, True]


def test_mlp_weights_have_he_variance():
    torch.manual_seed(0)
    model = mlp((1000,), 10, widths=[1000])
    assert model.linear1.weight.var().item() == pytest.approx(2 / 1000, rel=0.02)


def test_wrong_depth_and_wrong_images_are_errors_with_a_remedy():
    with pytest.raises(TrainingError, match="6n \\+ 2; use 20"):
        resnet((3, 32, 32), 10, depth=18)
    with pytest.raises(TrainingError, match="choose another model"):
        c1((1, 28, 28), 10)
    with pytest.raises(TrainingError, match="use mlp"):
        resnet((64,), 10)
