"""Ghost batch norm against plain batch norm, chunk by chunk: the definition is the oracle."""

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, convert_batch_norm
from gapbench.layers.ghost_math import group_count, normalize_chunks, normalize_groups

SHAPES = [(24, 5), (24, 5, 3, 4)]


def layer_with_random_affine(channels: int, **options: object) -> GhostBatchNorm:
    layer = GhostBatchNorm(channels, **options)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.normal_()
    return layer


def plain_batch_norm(layer: GhostBatchNorm, dimensions: int) -> nn.Module:
    plain = (nn.BatchNorm1d if dimensions == 2 else nn.BatchNorm2d)(len(layer.weight), momentum=layer.momentum)
    plain.weight, plain.bias = nn.Parameter(layer.weight.detach().clone()), nn.Parameter(layer.bias.detach().clone())
    return plain


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("running_statistics", ["mean", "sequential"])
def test_one_group_is_batch_norm_with_its_running_statistics(shape, running_statistics):
    torch.manual_seed(0)
    layer = layer_with_random_affine(5, ghost_batch_size=24, running_statistics=running_statistics)
    plain = plain_batch_norm(layer, len(shape))
    for _ in range(4):
        inputs = torch.randn(shape) * 3 + 1
        torch.testing.assert_close(layer(inputs), plain(inputs))
    torch.testing.assert_close(layer.running_mean, plain.running_mean)
    torch.testing.assert_close(layer.running_var, plain.running_var)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", [normalize_chunks, normalize_groups])
def test_forward_and_gradients_equal_plain_batch_norm_over_accumulated_micro_batches(shape, form):
    torch.manual_seed(1)
    layer = layer_with_random_affine(5, ghost_batch_size=6)
    inputs = torch.randn(shape, requires_grad=True)
    weights_of_loss = torch.randn(shape)
    outputs, moments = form(inputs, 4, layer.weight, layer.bias, layer.epsilon)
    (outputs * weights_of_loss).sum().backward()

    oracle_inputs = inputs.detach().clone().requires_grad_()
    plain = plain_batch_norm(layer, len(shape))
    for start in range(0, 24, 6):
        chunk = slice(start, start + 6)
        result = plain(oracle_inputs[chunk])
        torch.testing.assert_close(outputs[chunk], result)
        (result * weights_of_loss[chunk]).sum().backward()
        over = [dimension for dimension in range(len(shape)) if dimension != 1]
        torch.testing.assert_close(moments.mean[:, start // 6], inputs[chunk].detach().mean(over))
        torch.testing.assert_close(moments.variance[:, start // 6], inputs[chunk].detach().var(over))
    torch.testing.assert_close(inputs.grad, oracle_inputs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("running_statistics", ["mean", "sequential"])
def test_running_statistics_of_constant_statistics_converge_to_them(running_statistics):
    torch.manual_seed(2)
    layer = GhostBatchNorm(3, ghost_batch_size=8, running_statistics=running_statistics)
    group = torch.randn(8, 3)
    batch = group.repeat(4, 1)  # four equal groups: every group has the same statistics
    for _ in range(200):
        layer(batch)
    torch.testing.assert_close(layer.running_mean, group.mean(0))
    expected = group.var(0) if running_statistics == "sequential" else batch.var(0)
    torch.testing.assert_close(layer.running_var, expected)


def test_mean_statistics_are_those_of_the_whole_batch_even_when_groups_differ():
    torch.manual_seed(3)
    layer = GhostBatchNorm(3, ghost_batch_size=8, momentum=1.0)
    batch = torch.randn(4, 8, 3) + 10 * torch.arange(4.0)[:, None, None]  # ghost-dependent means
    layer(batch.flatten(0, 1))
    torch.testing.assert_close(layer.running_mean, batch.flatten(0, 1).mean(0))
    torch.testing.assert_close(layer.running_var, batch.flatten(0, 1).var(0))


def test_sequential_statistics_are_those_of_batch_norm_applied_group_after_group():
    torch.manual_seed(4)
    layer = GhostBatchNorm(3, ghost_batch_size=8, running_statistics="sequential")
    plain = nn.BatchNorm1d(3)
    for _ in range(3):
        batch = torch.randn(32, 3) * 2 + 5
        layer(batch)
        for chunk in batch.split(8):
            plain(chunk)
    torch.testing.assert_close(layer.running_mean, plain.running_mean)
    torch.testing.assert_close(layer.running_var, plain.running_var)
    assert int(layer.steps) == 12


@pytest.mark.parametrize("running_statistics", ["mean", "sequential"])
def test_momentum_none_averages_all_values(running_statistics):
    torch.manual_seed(5)
    layer = GhostBatchNorm(3, ghost_batch_size=8, running_statistics=running_statistics, momentum=None)
    batches = [torch.randn(32, 3) + step for step in range(5)]
    for batch in batches:
        layer(batch)
    torch.testing.assert_close(layer.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))
    if running_statistics == "sequential":
        expected = torch.stack([chunk.var(0) for batch in batches for chunk in batch.split(8)]).mean(0)
    else:
        expected = torch.stack([batch.var(0) for batch in batches]).mean(0)
    torch.testing.assert_close(layer.running_var, expected)


def test_state_has_the_same_shapes_at_every_batch_and_ghost_size():
    shapes = []
    for ghost, batch in ((None, 8), (4, 8), (4, 64)):
        layer = GhostBatchNorm(3, ghost_batch_size=ghost)
        layer(torch.randn(batch, 3))
        shapes.append({name: value.shape for name, value in layer.state_dict().items()})
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(("batch", "ghost"), [(101, 10), (848, 128)])
def test_a_ragged_last_group_is_an_error_that_says_its_size(batch, ghost):
    layer = GhostBatchNorm(3, ghost_batch_size=ghost)
    with pytest.raises(TrainingError, match=f"ghost batch size {ghost} does not divide a batch of {batch}.*{batch % ghost} examples"):
        layer(torch.randn(batch, 3))


@pytest.mark.parametrize("form", [normalize_chunks, normalize_groups])
def test_statistics_are_fp32_under_bf16_activations(form):
    torch.manual_seed(6)
    layer = layer_with_random_affine(5, ghost_batch_size=6)
    inputs = torch.randn(24, 5, 3, 4)
    outputs, moments = form(inputs.bfloat16(), 4, layer.weight, layer.bias, layer.epsilon)
    assert outputs.dtype == torch.bfloat16
    assert moments.mean.dtype == moments.variance.dtype == torch.float32
    _, exact = form(inputs.bfloat16().float(), 4, layer.weight, layer.bias, layer.epsilon)
    torch.testing.assert_close(moments.mean, exact.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moments.variance, exact.variance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ghost", [None, 8])
def test_evaluation_does_not_depend_on_the_evaluation_batch(ghost):
    torch.manual_seed(7)
    layer = layer_with_random_affine(3, ghost_batch_size=ghost)
    layer(torch.randn(32, 3) + 2)
    layer.eval()
    inputs = torch.randn(128, 3)
    for size in (1, 7, 128):
        torch.testing.assert_close(torch.cat([layer(part) for part in inputs.split(size)]), layer(inputs))


@pytest.mark.parametrize(("running_statistics", "ghost"), [("mean", None), ("mean", 8), ("sequential", 8)])
def test_evaluation_divides_out_the_initial_statistics(running_statistics, ghost):
    torch.manual_seed(8)
    layer = GhostBatchNorm(3, ghost_batch_size=ghost, running_statistics=running_statistics)
    assert [value.tolist() for value in layer.statistics()] == [[0.0] * 3, [1.0] * 3]
    batch = torch.randn(8, 3).repeat(4, 1) * 5 + 100
    layer(batch)  # one update: the moving average itself still is far from the statistics
    mean, variance = layer.statistics()
    expected = batch.var(0) if running_statistics == "mean" else batch[:8].var(0)
    torch.testing.assert_close(mean, batch.mean(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(variance, expected, rtol=1e-4, atol=0)


def test_several_micro_batches_commit_as_one_update():
    torch.manual_seed(9)
    whole, pieces = (GhostBatchNorm(3, ghost_batch_size=4) for _ in range(2))
    batch = torch.randn(32, 3) + torch.arange(32.0)[:, None]
    whole(batch)
    pieces.deferred = True
    for part in batch.split(8):
        pieces(part)
    assert int(pieces.steps) == 0
    pieces.commit()
    torch.testing.assert_close(whole.running_mean, pieces.running_mean)
    torch.testing.assert_close(whole.running_var, pieces.running_var)
    assert int(pieces.steps) == 1


@settings(max_examples=30, deadline=None)
@given(groups=st.integers(1, 6), group=st.integers(2, 9), channels=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_the_form_with_few_kernels_equals_the_chunks(groups, group, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups * group, channels, 2, 3, generator=generator)
    layer = layer_with_random_affine(channels)
    arguments = (inputs, groups, layer.weight, layer.bias, layer.epsilon)
    (chunks, chunk_moments), (views, view_moments) = normalize_chunks(*arguments), normalize_groups(*arguments)
    torch.testing.assert_close(chunks, views, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chunk_moments.mean, view_moments.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chunk_moments.variance, view_moments.variance, rtol=1e-4, atol=1e-5)


def ragged_oracle(layer, inputs, weights, group):
    """Plain batch norm chunk after chunk, the mean of the chunks' losses: what the released code makes of a ragged batch."""
    plain = plain_batch_norm(layer, inputs.ndim)
    inputs = inputs.detach().clone().requires_grad_()
    outputs = [plain(chunk) for chunk in inputs.split(group)]
    losses = [(output * weight).mean() for output, weight in zip(outputs, weights.split(group), strict=True)]
    torch.stack(losses).mean().backward()
    return plain, inputs, torch.cat(outputs).detach()


@pytest.mark.parametrize("shape", [(848 // 16, 5), (23, 5, 3, 4), (2, 5)])
@pytest.mark.parametrize("form", ["chunks", "groups"])
def test_a_ragged_batch_equals_plain_batch_norm_chunk_after_chunk(shape, form, monkeypatch):
    torch.manual_seed(0)
    group = 7
    layer = layer_with_random_affine(5, ghost_batch_size=8, running_statistics="sequential")
    layer.ragged_group_size = group
    if form == "groups":  # as on a GPU
        monkeypatch.setattr("gapbench.layers.ghost_batch_norm.normalize_chunks", normalize_groups)
    ours, weights = torch.randn(shape, requires_grad=True), torch.randn(shape)
    plain, theirs, expected = ragged_oracle(layer, ours, weights, group)
    outputs = layer(ours)
    pairs = zip(outputs.split(group), weights.split(group), strict=True)
    torch.stack([(output * weight).mean() for output, weight in pairs]).mean().backward()
    torch.testing.assert_close(outputs.detach(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(layer.running_mean, plain.running_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var, plain.running_var, rtol=1e-4, atol=1e-5)
    assert int(layer.steps) == -(-shape[0] // group)


@pytest.mark.parametrize("pieces", [23, 14, 7])
def test_groups_of_a_ragged_batch_count_alike_in_its_running_statistics(pieces):
    torch.manual_seed(0)
    layer = layer_with_random_affine(5, ghost_batch_size=8, momentum=1.0)
    layer.ragged_group_size, layer.deferred = 7, True
    inputs = torch.randn(23, 5, 2, 2) * 2 + torch.arange(23.0)[:, None, None, None]
    for piece in inputs.split(pieces):
        layer(piece)
    layer.commit()
    chunks = inputs.split(7)
    means = torch.stack([chunk.mean(dim=(0, 2, 3)) for chunk in chunks])
    within = torch.stack([chunk.var(dim=(0, 2, 3), correction=0) for chunk in chunks]).mean(dim=0)
    total = 23 * 4
    torch.testing.assert_close(layer.running_mean, means.mean(dim=0), rtol=1e-4, atol=1e-5)
    expected = (within + means.var(dim=0, correction=0)) * total / (total - 1)
    torch.testing.assert_close(layer.running_var, expected, rtol=1e-4, atol=1e-5)


def test_a_ragged_batch_that_its_groups_divide_has_the_bits_of_equal_groups():
    torch.manual_seed(0)
    even, ragged = (layer_with_random_affine(5, ghost_batch_size=7) for _ in range(2))
    ragged.load_state_dict(even.state_dict())
    ragged.ragged_group_size = 7
    inputs = torch.randn(21, 5, 3)
    assert torch.equal(even(inputs), ragged(inputs))
    assert torch.equal(even.running_var, ragged.running_var)


@pytest.mark.parametrize(("examples", "group"), [(22, 7), (8, 1), (1, 4)])
def test_a_group_of_one_example_is_refused(examples, group):
    layer = GhostBatchNorm(5, ghost_batch_size=8)
    layer.ragged_group_size = group
    with pytest.raises(TrainingError, match="a group of one example"):
        layer(torch.randn(examples, 5))


def test_group_count_is_exact():
    assert [group_count(32, ghost) for ghost in (None, 32, 8)] == [1, 1, 4]


def test_converting_replaces_every_batch_norm_and_keeps_scale_and_shift():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2)))
    before = copy.deepcopy(model.state_dict())
    converted = convert_batch_norm(model, ghost_batch_size=8)
    assert [type(layer) for layer in converted.modules() if "Norm" in type(layer).__name__] == [GhostBatchNorm, GhostBatchNorm]
    assert set(before) - set(converted.state_dict()) == {"1.num_batches_tracked", "2.2.num_batches_tracked"}
    assert list(dict(converted.named_parameters())) == [name for name in before if name.endswith(("weight", "bias"))]


class Whitened(nn.BatchNorm1d):
    """A batch norm of a user's own."""


def hooked() -> nn.Module:
    layer = nn.BatchNorm1d(2)
    layer.register_forward_hook(lambda *_: None)
    return layer


def shared() -> nn.Module:
    layer = nn.BatchNorm1d(2)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (nn.BatchNorm1d(2, affine=False), "needs affine=True"),
        (nn.BatchNorm1d(2, track_running_stats=False), "needs affine=True and track_running_stats=True"),
        (nn.BatchNorm1d(2, momentum=0.01), "set norm_momentum = 0.01 in the suite"),
        (nn.BatchNorm1d(2, momentum=None), 'set norm_momentum = "cumulative" in the suite'),
        (nn.SyncBatchNorm(2), "SyncBatchNorm has no counterpart"),
        (nn.LazyBatchNorm1d(), "LazyBatchNorm1d has no counterpart"),
        (nn.BatchNorm3d(2), "BatchNorm3d has no counterpart"),
        (Whitened(2), "Whitened has no counterpart"),
        (hooked(), "hooks and parametrizations of a batch norm would be lost"),
        (shared(), 'layers "0.0" and "0.2" are one batch norm'),
    ],
)
def test_a_batch_norm_is_refused_where_the_layer_in_its_place_would_drop_a_property(model, told):
    with pytest.raises(TrainingError, match=re.escape(told)):
        convert_batch_norm(nn.Sequential(model), ghost_batch_size=8)


def test_a_batch_norm_of_the_runs_own_momentum_keeps_its_epsilon_and_a_scale_that_does_not_train():
    layer = nn.BatchNorm1d(2, momentum=0.01, eps=0.5)
    layer.weight.requires_grad_(False)
    (found,) = convert_batch_norm(nn.Sequential(layer), ghost_batch_size=8, momentum=0.01)
    assert (found.epsilon, found.momentum, found.weight.requires_grad, found.bias.requires_grad) == (0.5, 0.01, False, True)
