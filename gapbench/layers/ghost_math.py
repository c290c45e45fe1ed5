"""The arithmetic of ghost batch norm: groups of a batch, their moments, and how a group is normalized."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gapbench.core.errors import TrainingError


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
    moments = GroupMoments(torch.stack(means, dim=-1), torch.stack(variances, dim=-1), elements_of(inputs, groups))
    return (outputs[0] if groups == 1 else torch.cat(outputs)), moments


def normalize_groups(inputs: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, GroupMoments]:
    """Normalizes all groups at once through a view [groups, group, channels, ...]: few kernels, whatever the number of groups."""
    grouped = inputs.reshape(groups, -1, *inputs.shape[1:]).float()  # bf16 activations, fp32 statistics
    over = (1, *range(3, grouped.ndim))
    variance, mean = torch.var_mean(grouped, dim=over, correction=0, keepdim=True)
    shape = (1, 1, -1) + (1,) * (grouped.ndim - 3)
    outputs = (grouped - mean) * torch.rsqrt(variance + epsilon) * weight.view(shape) + bias.view(shape)
    elements = elements_of(inputs, groups)
    unbiased = variance.detach() * (elements / (elements - 1))
    moments = GroupMoments(mean.detach().flatten(1).T, unbiased.flatten(1).T, elements)
    return outputs.flatten(0, 1).to(inputs.dtype), moments


def debiased(mean: Tensor, variance: Tensor, steps: Tensor, momentum: float | None) -> tuple[Tensor, Tensor]:
    """Divides the initial (0, 1) out of moving averages after `steps` steps."""
    if momentum is None:
        return mean, variance  # the first value replaced the initial one
    left = torch.pow(torch.tensor(1.0 - momentum, dtype=torch.float64, device=steps.device), steps.double())
    gone = torch.where(steps > 0, 1.0 - left, torch.ones_like(left))
    left = torch.where(steps > 0, left, torch.zeros_like(left))
    return (mean / gone).to(mean.dtype), ((variance - left) / gone).clamp_min(0.0).to(variance.dtype)


def elements_of(inputs: Tensor, groups: int) -> int:
    """Returns how many elements of a channel each of so many equal groups has."""
    return inputs.numel() // inputs.shape[1] // groups
