"""Ghost batch normalization (Hoffer, Hubara, Soudry 2017, Algorithm 1, with its running statistics put right).

The batch is cut into contiguous groups of `ghost_batch_size` examples; each group is normalized by its own mean and
(biased) variance, with one scale and shift for all. One group of the whole batch is batch normalization itself, so that
this layer serves both.

The paper's printed formula for the running statistics does not conserve weight (32 groups at momentum 0.1 settle at
0.869 of the true value), so two correct rules are offered instead:

- `mean`: one moving-average step an update, towards the mean of the group means and the variance of the whole batch
  (mean of the group variances plus variance of the group means; unbiased with n = all elements);
- `sequential`: one step for each group in order, as the released code does by passing chunk after chunk through batch
  norm: r <- (1 - m)^G r + m sum_i (1 - m)^(G - 1 - i) s_i, with the unbiased variance of each group.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError

RunningStatistics = Literal["mean", "sequential"]


class GhostBatchNorm(nn.Module):
    """Batch norm over groups of `ghost_batch_size` examples, for [batch, channels] and [batch, channels, ...] inputs.

    In evaluation the running statistics are used, whatever the evaluation batch, with their initial values (0, 1)
    divided out: after t steps these still hold the share (1 - momentum)^t, which would bias early measurements.

    Args:
        channels: number of channels.
        ghost_batch_size: examples a group; None: the whole batch is one group.
        running_statistics: `mean` or `sequential`, see the module's text.
        momentum: weight of the new value in the moving average, as in torch; None: the average of all values so far.
        epsilon: added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor
    steps: Tensor

    def __init__(
        self,
        channels: int,
        *,
        ghost_batch_size: int | None = None,
        running_statistics: RunningStatistics = "mean",
        momentum: float | None = 0.1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.ghost_batch_size = ghost_batch_size
        self.running_statistics = running_statistics
        self.momentum = momentum
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.deferred = False
        """True: `commit()` is called once an update by the training loop; False: every training forward commits."""
        self.ragged_group_size: int | None = None
        """Examples a group, of which the last may be smaller, in training forwards of a ragged batch; None: `ghost_batch_size`."""
        self._pending: list[GroupMoments] = []

    def forward(self, inputs: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        """Normalizes a batch. Raises TrainingError where the ghost batch size does not divide the batch."""
        if not self.training:
            mean, variance = self.statistics()
            return F.batch_norm(inputs, mean, variance, self.weight, self.bias, False, 0.0, self.epsilon)
        parts = [
            self._normalized(inputs[start:stop], groups)
            for start, stop, groups in group_spans(len(inputs), self.ghost_batch_size, self.ragged_group_size)
        ]
        if not self.deferred:
            self.commit()
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _normalized(self, inputs: Tensor, groups: int) -> Tensor:
        """Returns a part of a batch normalized in so many equal groups, whose moments wait to be committed."""
        normalize = normalize_chunks if groups == 1 or inputs.device.type == "cpu" else normalize_groups
        outputs, moments = normalize(inputs, groups, self.weight, self.bias, self.epsilon)
        self._pending.append(moments)
        return outputs

    @torch.no_grad()
    def commit(self) -> None:
        """Takes one step of the running statistics with the moments of all forwards since the last commit: one update."""
        if self._pending:
            step_running_statistics(self, GroupMoments.joined(self._pending))
            self._pending.clear()

    @property
    def rule(self) -> tuple[str, float | None]:
        """How the running statistics move: name of the rule and momentum."""
        return self.running_statistics, self.momentum

    def statistics(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Returns running mean and variance with the initial (0, 1) divided out; (0, 1) before the first step."""
        return debiased(self.running_mean, self.running_var, self.steps, self.momentum)

    def reset_running_statistics(self) -> None:
        """Sets the running statistics back to (0, 1)."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self.steps.zero_()
        self.forget_pending()

    def forget_pending(self) -> None:
        """Drops the moments of forwards since the last commit."""
        self._pending.clear()

    def extra_repr(self) -> str:
        """Shows sizes and rules when the module is printed."""
        return f"{len(self.weight)}, ghost_batch_size={self.ghost_batch_size}, running_statistics={self.running_statistics}"


@torch.no_grad()
def commit_all(layers: Sequence[GhostBatchNorm]) -> None:
    """Does what `commit` does, to the same bits, for all layers of a network in two calls where the rule allows it."""
    layers = [layer for layer in layers if layer._pending]
    first = layers[0] if layers else None
    if first is None or first.momentum is None or any(layer.rule != first.rule or layer.rule[0] != "mean" for layer in layers):
        for layer in layers:
            layer.commit()
        return
    moments = [GroupMoments.joined(layer._pending).whole() for layer in layers]
    running = [tensor for layer in layers for tensor in (layer.running_mean, layer.running_var)]
    torch._foreach_add_([layer.steps for layer in layers], 1)
    torch._foreach_lerp_(running, [tensor for pair in moments for tensor in pair], first.momentum)
    for layer in layers:
        layer._pending.clear()


class GroupMoments:
    """Mean and unbiased variance of each group: float32 [..., groups], with the number of elements a group; the last may have fewer."""

    def __init__(self, mean: Tensor, variance: Tensor, elements: int, last_elements: int | None = None) -> None:
        self.mean = mean
        self.variance = variance
        self.elements = elements
        self.last_elements = elements if last_elements is None else last_elements

    @staticmethod
    def joined(parts: list[GroupMoments]) -> GroupMoments:
        """Returns the moments of several forwards, one after another, as those of one."""
        if len(parts) == 1:
            return parts[0]
        mean = torch.cat([part.mean for part in parts], dim=-1)
        variance = torch.cat([part.variance for part in parts], dim=-1)
        return GroupMoments(mean, variance, parts[0].elements, parts[-1].last_elements)

    def whole(self) -> tuple[Tensor, Tensor]:
        """Returns mean and unbiased variance of all groups together, by the law of total variance. Shapes [...].

        Groups count alike: the examples of a smaller last one weigh more, as they do in the gradient of a ragged batch.
        """
        groups = self.mean.shape[-1]
        if groups == 1:
            return self.mean[..., 0], self.variance[..., 0]
        mean = self.mean.mean(dim=-1)
        within = self.variance.mean(dim=-1) * ((self.elements - 1) / self.elements)
        if self.last_elements != self.elements:
            # What the last group's biased variance differs by from the share taken above; a mean, so divided by the groups.
            within = within + self.variance[..., -1] * ((1 / self.elements - 1 / self.last_elements) / groups)
        between = (self.mean - mean[..., None]).square().mean(dim=-1)
        total = (groups - 1) * self.elements + self.last_elements
        return mean, (within + between) * (total / (total - 1))


def group_count(examples: int, ghost_batch_size: int | None) -> int:
    """Returns the number of groups in a batch. Raises TrainingError where the ghost batch size does not divide it."""
    if ghost_batch_size is None:
        return 1
    if examples % ghost_batch_size:
        raise TrainingError(
            f"ghost batch size {ghost_batch_size} does not divide a batch of {examples}; "
            f"the last group would have {examples % ghost_batch_size} examples and other statistics"
        )
    return examples // ghost_batch_size


def group_spans(examples: int, ghost_batch_size: int | None, ragged_group_size: int | None) -> list[tuple[int, int, int]]:
    """Returns the parts of a batch that are cut into equal groups, as (start, stop, groups): one, or two where the last group is smaller.

    Args:
        examples: of the batch.
        ghost_batch_size: of the layer; must divide the batch where it is not ragged.
        ragged_group_size: examples of all groups but the last, where the batch is ragged.

    Raises:
        TrainingError: the ghost batch size does not divide the batch, or a ragged batch leaves a group of one example.
    """
    if ragged_group_size is None:
        return [(0, examples, group_count(examples, ghost_batch_size))]
    groups, rest = divmod(examples, ragged_group_size)
    if 1 in (rest, ragged_group_size):
        raise TrainingError(
            f"a ragged batch of {examples} in groups of {ragged_group_size} has a group of one example, and batch norm needs two or more"
        )
    spans = [(0, examples - rest, groups), (examples - rest, examples, 1)]
    return [span for span in spans if span[0] < span[1]]


def normalize_chunks(inputs: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, GroupMoments]:
    """Normalizes group by group with torch's own batch norm: the definition, and on CPU also the fast way in either layout."""
    outputs, means, variances = [], [], []
    for chunk in inputs.chunk(groups):
        # A moving average with weight 1 for the new value hands out the group's mean and unbiased variance.
        mean, variance = torch.zeros_like(weight), torch.zeros_like(weight)
        outputs.append(F.batch_norm(chunk, mean, variance, weight, bias, True, 1.0, epsilon))
        means.append(mean.detach())
        variances.append(variance.detach())
    moments = GroupMoments(torch.stack(means, dim=-1), torch.stack(variances, dim=-1), _elements(inputs, groups))
    return (outputs[0] if groups == 1 else torch.cat(outputs)), moments


def normalize_groups(inputs: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, GroupMoments]:
    """Normalizes all groups at once through a view [groups, group, channels, ...]: few kernels, whatever the number of groups."""
    grouped = inputs.reshape(groups, -1, *inputs.shape[1:]).float()  # bf16 activations, fp32 statistics
    over = (1, *range(3, grouped.ndim))
    variance, mean = torch.var_mean(grouped, dim=over, correction=0, keepdim=True)
    shape = (1, 1, -1) + (1,) * (grouped.ndim - 3)
    outputs = (grouped - mean) * torch.rsqrt(variance + epsilon) * weight.view(shape) + bias.view(shape)
    elements = _elements(inputs, groups)
    unbiased = variance.detach() * (elements / (elements - 1))
    moments = GroupMoments(mean.detach().flatten(1).T, unbiased.flatten(1).T, elements)
    return outputs.flatten(0, 1).to(inputs.dtype), moments


def step_running_statistics(layer: GhostBatchNorm, moments: GroupMoments) -> None:
    """Moves a layer's running statistics by one update. Works in place and never waits for the device."""
    if layer.running_statistics == "mean":
        mean, variance = moments.whole()
        layer.steps += 1
        if layer.momentum is None:
            layer.running_mean += (mean - layer.running_mean) / layer.steps
            layer.running_var += (variance - layer.running_var) / layer.steps
        else:
            layer.running_mean.lerp_(mean, layer.momentum)
            layer.running_var.lerp_(variance, layer.momentum)
        return
    groups = moments.mean.shape[-1]
    if layer.momentum is None:
        # The average of all group values so far: the groups of this update weigh groups / (steps + groups) together.
        layer.steps += groups
        share = groups / layer.steps
        layer.running_mean += (moments.mean.mean(dim=-1) - layer.running_mean) * share
        layer.running_var += (moments.variance.mean(dim=-1) - layer.running_var) * share
        return
    keep = 1.0 - layer.momentum
    weights = _decaying(groups, layer.momentum, moments.mean.device)
    layer.running_mean.mul_(keep**groups).add_((moments.mean * weights).sum(dim=-1))
    layer.running_var.mul_(keep**groups).add_((moments.variance * weights).sum(dim=-1))
    layer.steps += groups


@functools.lru_cache(maxsize=64)
def _decaying(groups: int, momentum: float, device: torch.device) -> Float[Tensor, " groups"]:
    """Returns the weight of each group in sequential steps. Kept, since a recorded update may copy nothing from the host."""
    keep = 1.0 - momentum
    return torch.tensor([momentum * keep ** (groups - 1 - i) for i in range(groups)], dtype=torch.float32).to(device)


def debiased(mean: Tensor, variance: Tensor, steps: Tensor, momentum: float | None) -> tuple[Tensor, Tensor]:
    """Divides the initial (0, 1) out of moving averages after `steps` steps."""
    if momentum is None:
        return mean, variance  # the first value replaced the initial one
    left = torch.pow(torch.tensor(1.0 - momentum, dtype=torch.float64, device=steps.device), steps.double())
    gone = torch.where(steps > 0, 1.0 - left, torch.ones_like(left))
    left = torch.where(steps > 0, left, torch.zeros_like(left))
    return (mean / gone).to(mean.dtype), ((variance - left) / gone).clamp_min(0.0).to(variance.dtype)


def convert_batch_norm(
    model: nn.Module, *, ghost_batch_size: int | None, running_statistics: RunningStatistics = "mean", momentum: float | None = 0.1
) -> nn.Module:
    """Replaces every nn.BatchNorm1d and nn.BatchNorm2d in `model`, in place, and returns it.

    A model is thus written with plain torch layers and gets ghost batch norm from outside. Scale and shift are kept.
    Raises TrainingError for a batch norm without scale and shift or without running statistics, which has no counterpart.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                if not child.affine or not child.track_running_stats:
                    raise TrainingError(f'layer "{name}": batch norm needs affine=True and track_running_stats=True')
                layer = GhostBatchNorm(
                    child.num_features,
                    ghost_batch_size=ghost_batch_size,
                    running_statistics=running_statistics,
                    momentum=momentum,
                    epsilon=child.eps,
                )
                layer.weight, layer.bias = child.weight, child.bias
                setattr(module, name, layer)
    return model


def _elements(inputs: Tensor, groups: int) -> int:
    return inputs.numel() // inputs.shape[1] // groups
