"""Stacked layers: several replicas of one dense network trained by one program, each with its own weights and data.

Activations have the layout [replica, feature, batch]: a layer is one batched matrix product, and the statistics of batch
norm are over the last, contiguous dimension. On small batches a program's time is its number of calls, and a stack of
eight makes the calls of one. No value of a replica depends on the others, so a run gives the same bits in any stack.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.ghost_batch_norm import GhostBatchNorm
from gapbench.layers.ghost_math import GroupMoments


class StackedLinear(nn.Module):
    """y = W x + b for each replica: weight [replica, output, input], bias [replica, output] or none."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(self, inputs: Float[Tensor, "replica inputs batch"]) -> Float[Tensor, "replica outputs batch"]:
        """Multiplies every replica's activations with its own weights."""
        if self.bias is None:
            return torch.bmm(self.weight, inputs)
        return torch.baddbmm(self.bias[:, :, None], self.weight, inputs)


class StackedGhostBatchNorm(GhostBatchNorm):
    """Ghost batch norm of each replica: scale, shift and running statistics [replica, feature].

    Contiguous groups of the last dimension are channels of one call of torch's batch norm, so ghost groups cost nothing.
    """

    def __init__(self, layers: Sequence[GhostBatchNorm]) -> None:
        first = layers[0]
        super().__init__(
            len(first.weight),
            ghost_batch_size=first.ghost_batch_size,
            running_statistics=first.running_statistics,
            momentum=first.momentum,
            epsilon=first.epsilon,
        )
        self.form = "stacked"
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))
        self.running_mean = torch.zeros_like(self.weight.detach())
        self.running_var = torch.ones_like(self.weight.detach())

    def forward(self, inputs: Float[Tensor, "replica feature batch"]) -> Float[Tensor, "replica feature batch"]:
        """Normalizes. Raises TrainingError where the ghost batch size does not divide the batch."""
        if not self.training:
            mean, variance = self.statistics()
            return self._batch_norm(inputs, mean, variance, groups=1, training=False)
        return self._in_groups(inputs, dimension=-1)

    def _normalized(self, inputs: Tensor, groups: int) -> Tensor:
        mean, variance = torch.zeros(2, *self.weight.shape, groups, device=inputs.device).unbind()
        outputs = self._batch_norm(inputs, mean, variance, groups=groups, training=True)
        self._pending.append(GroupMoments(mean, variance, inputs.shape[-1] // groups))
        return outputs

    def _batch_norm(self, inputs: Tensor, mean: Tensor, variance: Tensor, *, groups: int, training: bool) -> Tensor:
        weight, bias = self.weight.reshape(-1), self.bias.reshape(-1)
        if groups > 1:
            weight, bias = weight.repeat_interleave(groups), bias.repeat_interleave(groups)
        channels = inputs.reshape(1, -1, inputs.shape[-1] // groups)  # contiguous: a view, groups become channels
        # A moving average with weight 1 for the new value hands out each group's mean and unbiased variance.
        outputs = torch.batch_norm(channels, weight, bias, mean.view(-1), variance.view(-1), training, 1.0, self.epsilon, False)
        return outputs.view(inputs.shape)


class StackedGroupNorm(nn.Module):
    """Group norm of each replica's examples: scale and shift [replica, feature], groups of neighboring features."""

    def __init__(self, layers: Sequence[nn.GroupNorm]) -> None:
        super().__init__()
        self.groups, self.epsilon = layers[0].num_groups, layers[0].eps
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, inputs: Float[Tensor, "replica feature batch"]) -> Float[Tensor, "replica feature batch"]:
        """Normalizes each example by itself."""
        replicas, features, batch = inputs.shape
        grouped = inputs.reshape(replicas, self.groups, features // self.groups, batch).float()  # bf16 activations, fp32 statistics
        # Not var_mean, which on a CPU takes a hundred times as long as mean along a dimension that is not the innermost.
        centred = grouped - grouped.mean(dim=2, keepdim=True)
        variance = centred.square().mean(dim=2, keepdim=True)
        normalized = (centred * torch.rsqrt(variance + self.epsilon)).view(inputs.shape)
        outputs: Tensor = normalized * self.weight[:, :, None] + self.bias[:, :, None]
        return outputs.to(inputs.dtype)


class StackedFlatten(nn.Module):
    """[replica, batch, ...] -> [replica, feature, batch]: images enter a stack with the batch in front and leave transposed."""

    def forward(self, inputs: Float[Tensor, "replica batch ..."]) -> Float[Tensor, "replica feature batch"]:
        """Flattens each example and puts the batch last."""
        return inputs.flatten(2).transpose(1, 2)


def can_stack(model: nn.Module) -> bool:
    """Whether `model` is a plain sequence of layers that have a stacked form.

    Only torch's own layers count: one that is derived from them, has hooks or stands twice may compute something else.
    """
    modules = [module for _, module in model.named_modules(remove_duplicate=False)]
    if len(set(modules)) < len(modules) or any(module._forward_hooks or module._forward_pre_hooks for module in modules):
        return False
    leaves = [module for module in modules if type(module) is not nn.Sequential]
    return all(type(leaf) in _STACKABLE and _has_stacked_form(leaf) for leaf in leaves)


_STACKABLE = (nn.Flatten, nn.Linear, nn.ReLU, nn.GroupNorm, GhostBatchNorm)


def _has_stacked_form(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return not isinstance(layer, nn.GroupNorm) or layer.affine


def stack(models: Sequence[nn.Module]) -> nn.Module:
    """Returns one module that computes all `models` (same architecture, own weights). Names of parameters stay the same.

    Takes [replica, batch, ...], returns [replica, classes, batch]. Raises TrainingError where a layer has no stacked form.
    """
    if not can_stack(models[0]):
        raise TrainingError(
            f"{type(models[0]).__name__} cannot be stacked: only sequences of Flatten, Linear, batch or group norm and ReLU can"
        )
    stacked = copy.deepcopy(models[0])
    for name, module in models[0].named_modules():
        if list(module.children()):
            continue
        peers = [model.get_submodule(name) for model in models]
        stacked.set_submodule(name, _stacked_layer(peers)) if name else None
    return stacked


def _stacked_layer(peers: Sequence[nn.Module]) -> nn.Module:
    first = peers[0]
    if isinstance(first, nn.Linear):
        return StackedLinear([peer for peer in peers if isinstance(peer, nn.Linear)])
    if isinstance(first, GhostBatchNorm):
        return StackedGhostBatchNorm([peer for peer in peers if isinstance(peer, GhostBatchNorm)])
    if isinstance(first, nn.GroupNorm):
        return StackedGroupNorm([peer for peer in peers if isinstance(peer, nn.GroupNorm)])
    if isinstance(first, nn.Flatten):
        return StackedFlatten()
    return nn.ReLU()  # not in place: its input is a view, and autograd would copy every gradient once more
