"""Wide residual networks, VGG, AlexNet and ResNet-50 layer by layer, with torchvision and the papers' own counts as oracles."""

import pytest
import torch
import torchvision
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.layers.keyed import Dropout, bind_keys
from gapbench.workloads.models.alexnet import alexnet, grid
from gapbench.workloads.models.resnet import BranchScale, resnet, resnet_imagenet, wresnet
from gapbench.workloads.models.vgg import vgg

CIFAR = (3, 32, 32)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: wresnet(CIFAR, 100), 2_800_804),
        (lambda: wresnet(CIFAR, 100, form="preactivation"), 2_772_020),
        (lambda: wresnet(CIFAR, 10, form="preactivation"), 2_748_890),  # "2.7M" of Zagoruyko and Komodakis 2016, table 4
        (lambda: wresnet(CIFAR, 10, depth=28, width=10, form="preactivation"), 36_479_194),  # their "36.5M"
        (lambda: vgg(CIFAR, 10), 14_987_210),
        (lambda: alexnet((3, 224, 224), 1000), 61_110_184),
        (lambda: resnet_imagenet((3, 224, 224), 1000), 25_557_032),
    ],
    ids=["wresnet released", "wresnet 16-4", "wresnet 16-4, 10 classes", "wresnet 28-10", "vgg16", "alexnet", "resnet50"],
)
def test_parameter_count(build, count):
    assert parameters(build()) == count


@pytest.mark.parametrize("depth", [50, 101])
def test_resnet_imagenet_computes_what_torchvision_does_with_the_same_weights(depth):
    ours = resnet_imagenet((3, 64, 64), 1000, depth=depth)
    theirs = torchvision.models.get_model(f"resnet{depth}")
    assert parameters(ours) == parameters(theirs)
    generator = torch.Generator().manual_seed(0)
    copied, kept = theirs.state_dict(), ours.state_dict()
    assert [tensor.shape for tensor in copied.values()] == [tensor.shape for tensor in kept.values()]
    for name, tensor in copied.items():  # other than the initial weights, so that norms and shortcuts count
        if tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5 * ("var" in name))
    ours.load_state_dict(dict(zip(kept, copied.values(), strict=True)))
    images = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.train()(images), theirs.train()(images), rtol=1e-3, atol=1e-3)


def test_resnet_imagenet_starts_from_the_same_distributions_as_torchvision():
    ours, theirs = resnet_imagenet((3, 64, 64), 1000), torchvision.models.resnet50()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.std(correction=0).item() == pytest.approx(other.std(correction=0).item(), rel=0.05, abs=1e-3)


def test_zero_gamma_makes_blocks_begin_as_their_shortcut():
    block = resnet_imagenet((3, 32, 32), 10, depth=26, zero_gamma=True).stage1[1]
    images = torch.rand(2, 256, 8, 8)
    torch.testing.assert_close(block(images), images)
    assert resnet_imagenet((3, 32, 32), 10, depth=26).stage1[1].norm3.weight.eq(1).all()


def test_alexnet_has_torchvisions_convolutions_and_shrinks_images_to_6():
    ours, theirs = alexnet((3, 224, 224), 1000), torchvision.models.alexnet()
    shapes = [[m.weight.shape for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)] for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    # Batch norm for biases: two numbers a channel in place of one.
    assert parameters(ours) - parameters(theirs) == sum(shape[0] for shape in shapes[0][:-1])
    assert isinstance(ours.pool, nn.Identity)
    for side in (224, 96, 63):
        assert ours.features(torch.randn(2, 3, side, side)).shape[2:] == grid((side, side))
    assert grid((224, 224)) == (6, 6)


def test_alexnet_takes_other_images_by_averaging():
    model = alexnet((3, 96, 128), 7, units=32)
    bind_keys(model, torch.arange(4))
    assert model(torch.randn(4, 3, 96, 128)).shape == (4, 7)


@pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_vgg_has_the_convolutions_of_its_depth(depth, convolutions):
    model = vgg(CIFAR, 10, depth=depth)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == convolutions == depth - 3
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == 2


def test_vgg_16_with_dropout_is_keskars_c2():
    """2x64, 2x128, 3x256, 3x512, 3x512, Dense 512; dropout within the stages and around the dense layer."""
    model = vgg(CIFAR, 10, dropout=True)
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [m.probability for m in model.modules() if isinstance(m, Dropout)] == [0.3, 0.4, *[0.4] * 6, 0.5, 0.5]
    bind_keys(model, torch.arange(2))
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 512, 1, 1)
    assert not any(isinstance(m, Dropout) for m in vgg(CIFAR, 10).modules())


def test_the_two_wide_networks_differ_in_their_stem_and_order():
    released, written = wresnet(CIFAR, 100), wresnet(CIFAR, 100, form="preactivation")
    assert released.stem[0].out_channels == 64
    assert written.stem.out_channels == 16
    assert type(written.stage1[0].norm1) is nn.BatchNorm2d
    for model in (released, written):
        main_path = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name]
        assert len(main_path) == 14  # 16 counts convolutions, with those of three shortcuts
        assert [len(stage) for stage in (model.stage1, model.stage2, model.stage3)] == [2, 2, 2]


@pytest.mark.parametrize("form", ["released", "preactivation"])
def test_residual_networks_without_norm_begin_as_their_shortcuts(form):
    torch.manual_seed(0)
    model = wresnet(CIFAR, 10, form=form, norm="none")
    scales = [module for module in model.modules() if isinstance(module, BranchScale)]
    assert len(scales) == 6
    images = torch.rand(2, 64, 8, 8)
    torch.testing.assert_close(model.stage1[1](images), images)
    torch.testing.assert_close(resnet(CIFAR, 10, depth=110, norm="none").stage1(images[:, :16]), images[:, :16])


@pytest.mark.parametrize("build", [wresnet, vgg, resnet])
def test_convolutions_have_biases_where_there_is_no_norm(build):
    for norm in ("batch", "group", "none"):
        biases = {module.bias is not None for module in build(CIFAR, 10, norm=norm).modules() if isinstance(module, nn.Conv2d)}
        assert biases == {norm == "none"}


def test_wrong_depths_and_images_are_errors_with_a_remedy():
    with pytest.raises(TrainingError, match="6n \\+ 4; use 16"):
        wresnet(CIFAR, 10, depth=18)
    with pytest.raises(TrainingError, match="no depth = 12; use 11, 13, 16, 19"):
        vgg(CIFAR, 10, depth=12)
    with pytest.raises(TrainingError, match="at least 32 x 32, not 28 x 28; choose another model"):
        vgg((1, 28, 28), 10)
    with pytest.raises(TrainingError, match="at least 63 x 63, not 32 x 32"):
        alexnet(CIFAR, 10)
    with pytest.raises(TrainingError, match="no depth = 44; use 26, 50"):
        resnet_imagenet(CIFAR, 10, depth=44)
    for build in (wresnet, vgg, alexnet, resnet_imagenet):
        with pytest.raises(TrainingError, match="use mlp"):
            build((64,), 10)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(
    "build",
    [
        lambda norm: resnet((3, 8, 8), 4, depth=20, norm=norm),
        lambda norm: wresnet((3, 8, 8), 4, depth=10, width=1, norm=norm),
        lambda norm: wresnet((3, 8, 8), 4, depth=16, width=1, form="preactivation", norm=norm),
    ],
    ids=["resnet20", "released", "preactivation"],
)
def test_residual_networks_train_with_any_norm(build, norm):
    torch.manual_seed(0)
    model = build(norm)
    labels = torch.arange(64) % 4
    images = torch.randn(64, 3, 8, 8) + labels[:, None, None, None] - 1.5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
