"""Stacked layers against the plain modules that they stand for."""

import pytest
import torch
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, convert_batch_norm
from gapbench.layers.stacked import can_stack, stack
from gapbench.workloads.models.mlp import f1, mlp
from gapbench.workloads.models.shallow_conv import c1


def networks(count: int, **options: object) -> list[nn.Module]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(convert_batch_norm(mlp((1, 8, 8), 10, widths=[32, 9], **options), ghost_batch_size=4))
    return made


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_stack_computes_each_network_with_its_gradients_and_running_statistics(norm, bias):
    plain = networks(3, norm=norm, bias=bias)
    stacked = stack(plain)
    torch.manual_seed(0)
    images, weights = torch.randn(3, 16, 1, 8, 8), torch.randn(3, 10, 16)
    outputs = stacked(images)
    (outputs * weights).sum().backward()
    for replica, network in enumerate(plain):
        expected = network(images[replica])
        torch.testing.assert_close(outputs[replica].T, expected, rtol=1e-4, atol=1e-5)
        (expected * weights[replica].T).sum().backward()
        for (name, mine), (_, theirs) in zip(stacked.named_parameters(), network.named_parameters(), strict=True):
            torch.testing.assert_close(mine.grad[replica], theirs.grad, rtol=1e-4, atol=1e-4, msg=name)
        for (name, mine), (_, theirs) in zip(stacked.named_buffers(), network.named_buffers(), strict=True):
            torch.testing.assert_close(mine[replica] if mine.ndim else mine, theirs, msg=name)
    stacked.eval()
    for replica, network in enumerate(plain):
        torch.testing.assert_close(stacked(images)[replica].T, network.eval()(images[replica]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_replica_gives_the_same_bits_in_any_stack(norm):
    plain = networks(5, norm=norm)
    torch.manual_seed(0)
    images = torch.randn(5, 16, 1, 8, 8)
    whole = stack(plain)(images)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
        assert torch.equal(stack(plain[part])(images[part]), whole[part])


def test_sequences_of_dense_layers_stack_and_others_do_not():
    assert can_stack(convert_batch_norm(f1((1, 28, 28), 10), ghost_batch_size=None))
    assert can_stack(f1((1, 28, 28), 10, norm="group"))
    assert not can_stack(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.GroupNorm(1, 2, affine=False)))
    assert not can_stack(convert_batch_norm(c1((3, 32, 32), 10), ghost_batch_size=None))
    assert not can_stack(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Dropout()))
    with pytest.raises(TrainingError, match="cannot be stacked"):
        stack([nn.Sequential(nn.Dropout())])


def test_stacked_norm_refuses_ragged_groups():
    stacked = stack([nn.Sequential(nn.Flatten(), nn.Linear(4, 3), GhostBatchNorm(3, ghost_batch_size=4))])
    with pytest.raises(TrainingError, match="does not divide a batch of 6"):
        stacked(torch.randn(1, 6, 4))
