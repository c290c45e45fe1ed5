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
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gapbench.core.errors import TrainingError
from gapbench.layers.ghost_math import GroupMoments, debiased, elements_of, group_spans, normalize_chunks, normalize_groups

RunningStatistics = Literal["mean", "sequential"]
Form = Callable[[Tensor, int, Tensor, Tensor, float], tuple[Tensor, GroupMoments]]
"""How a batch is normalized: (inputs, groups, scale, shift, epsilon) -> (outputs, moments of the groups)."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Types of activations that the kernels take -> the largest difference from the plain form, as a share of its largest value."""
CHECKED_GROUPS, CHECKED_EXAMPLES, CHECKED_CHANNELS, CHECKED_WIDTH = 3, 11, 24, 17
"""Of the check: a group is cut in four, its end is no whole tile, and its channels are no power of two."""

_troubles: dict[torch.dtype, str | None] = {}
"""Types that were checked in this process -> what is wrong; None: nothing."""


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
        self.seen = False
        """True: training forwards leave nothing to commit, as in the second pass of a block that is recomputed."""
        self.form = ""
        """How the last batch was normalized in training; see `ghost_norm_form`. Never read here, or compiled layers would depend on it."""
        self._pending: list[GroupMoments] = []

    def forward(self, inputs: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        """Normalizes a batch. Raises TrainingError where the ghost batch size does not divide the batch."""
        if not self.training:
            mean, variance = self.statistics()
            return F.batch_norm(inputs, mean, variance, self.weight, self.bias, False, 0.0, self.epsilon)
        return self._in_groups(inputs, dimension=0)

    def _in_groups(self, inputs: Tensor, dimension: int) -> Tensor:
        """Normalizes a batch, whose examples lie along a dimension, by the moments of its groups."""
        spans = group_spans(inputs.shape[dimension], self.ghost_batch_size, self.ragged_group_size)
        parts = [self._normalized(inputs.narrow(dimension, start, stop - start), groups) for start, stop, groups in spans]
        if not self.deferred:
            self.commit()
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dimension)

    def _normalized(self, inputs: Tensor, groups: int) -> Tensor:
        """Returns a part of a batch normalized in so many equal groups, whose moments wait to be committed."""
        name, normalize = _form(inputs, groups, self.weight)
        if groups > 1 or self.ragged_group_size is None:  # the smaller last group of a ragged batch does not count
            self.form = name
        outputs, moments = normalize(inputs, groups, self.weight, self.bias, self.epsilon)
        if not self.seen:
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

    def statistics(self) -> tuple[Float[Tensor, "*replica channels"], Float[Tensor, "*replica channels"]]:
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


def _form(inputs: Tensor, groups: int, weight: Tensor) -> tuple[str, Form]:
    """Returns name and function of the form that suits a batch; `normalize_chunks` is the definition, and the others equal it."""
    if triton_applies(inputs, groups, weight):
        return "triton", normalize_triton
    if groups == 1 or inputs.device.type == "cpu":
        return "chunks", normalize_chunks
    return "groups", normalize_groups


def normalize_triton(inputs: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, GroupMoments]:
    """Normalizes all groups of a channels-last batch with Triton's kernels: two passes over the inputs, fp32 statistics."""
    from gapbench.layers.ghost_kernels import ghost_norm  # imports triton, which is slow and not everywhere

    outputs, statistics = ghost_norm(inputs, weight, bias, groups, epsilon)
    mean, variance, _ = statistics.detach().unbind()
    return outputs, GroupMoments(mean.T, variance.T, elements_of(inputs, groups))


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


def convert_batch_norm(
    model: nn.Module, *, ghost_batch_size: int | None, running_statistics: RunningStatistics = "mean", momentum: float | None = 0.1
) -> nn.Module:
    """Replaces every nn.BatchNorm1d and nn.BatchNorm2d in `model`, in place, and returns it.

    A model is thus written with plain torch layers and gets ghost batch norm from outside. Scale, shift and epsilon are kept.

    Raises:
        TrainingError: a batch norm has a property that the layer in its place would not have.
    """
    swapped: dict[nn.Module, str] = {}
    for path, module in list(model.named_modules()):
        for child_name, child in list(module._modules.items()):  # shared layers, too, which named_children() gives once
            if isinstance(child, _BatchNorm):
                name = f"{path}.{child_name}" if path else child_name
                if child in swapped:
                    raise TrainingError(f'layers "{swapped[child]}" and "{name}" are one batch norm; give each place its own')
                if trouble := _without_counterpart(child, momentum):
                    raise TrainingError(f'layer "{name}": {trouble}')
                swapped[child] = name
                layer = GhostBatchNorm(
                    child.num_features,
                    ghost_batch_size=ghost_batch_size,
                    running_statistics=running_statistics,
                    momentum=momentum,
                    epsilon=child.eps,
                )
                layer.weight, layer.bias = child.weight, child.bias
                setattr(module, child_name, layer)
    return model


TORCH_MOMENTUM = 0.1
"""What a batch norm has that says nothing about its running statistics."""


def _without_counterpart(layer: _BatchNorm, momentum: float | None) -> str:
    """Returns what of a batch norm a layer in its place would drop, and what to do instead; empty: nothing."""
    kind = type(layer).__name__
    if type(layer) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return f"{kind} has no counterpart with ghost batches; write nn.BatchNorm1d or nn.BatchNorm2d with its number of features"
    if not layer.affine or not layer.track_running_stats:
        return "batch norm needs affine=True and track_running_stats=True"
    if layer.momentum not in (TORCH_MOMENTUM, momentum):
        own = '"cumulative"' if layer.momentum is None else f"{layer.momentum:g}"
        return f"its momentum is the run's, not the model's; leave it out there and set norm_momentum = {own} in the suite"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or nn.utils.parametrize.is_parametrized(layer):
        return "hooks and parametrizations of a batch norm would be lost; put them on another layer"
    return ""


def ghost_norm_form(network: nn.Module) -> str:
    """Returns the forms that a network's batch norm layers have taken in training, sorted, for the results; empty: none yet.

    `chunks`: torch's batch norm, group by group, or of the whole batch. `stacked`: the same with groups as channels. `groups`: all groups
    at once, in plain torch. `triton`: the kernels. `groups (no triton)`: this process gave them up, `triton_trouble` says why.
    """
    found = {layer.form for layer in network.modules() if isinstance(layer, GhostBatchNorm)} - {""}
    if triton_trouble() is None:
        return ", ".join(sorted(found))
    return ", ".join(sorted("groups (no triton)" if form == "groups" else form for form in found))


# Triton's kernels take a batch where they apply and have shown that they compute the same.
#
# Kernels are compiled on the user's machine, by a compiler that this project does not test on every device. So before they are used they
# are held against the plain form, once a process and type of activations, forward and backward. Whatever goes wrong there is no failure
# of a run: the layers take the plain form from then on, and `ghost_norm_form` and `triton_trouble` say so.


def triton_applies(inputs: Tensor, groups: int, weight: Tensor) -> bool:
    """Whether Triton's kernels normalize this batch. The first answer for a type of activations waits for the device.

    They take CUDA tensors in channels-last memory ([batch, channels], [batch, channels, height, width]), float32 or bfloat16, with
    float32 scale and shift, in two groups or more: one group is torch's own batch norm, which has kernels of its own.
    """
    if groups == 1 or inputs.device.type != "cuda" or not fits(inputs, groups, weight):
        return False
    holds: bool = triton_holds(inputs.device.index, inputs.dtype)
    return holds


def fits(inputs: Tensor, groups: int, weight: Tensor) -> bool:
    """Whether shape, memory order and types are those that the kernels take, whatever the device."""
    if inputs.ndim == 4:
        in_order = inputs.is_contiguous(memory_format=torch.channels_last)
    else:
        in_order = inputs.ndim == 2 and inputs.is_contiguous()
    return in_order and inputs.dtype in TOLERANCE and weight.dtype == torch.float32 and inputs.numel() > groups * inputs.shape[1]


# The decorator lets a compiled network ask while it is traced.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def triton_holds(device: int, dtype: torch.dtype) -> bool:
    """Whether the kernels are right for this type of activations, found out once in this process; once wrong, they stay out of use."""
    if any(_troubles.values()):
        return False
    if dtype not in _troubles:
        _troubles[dtype] = _trouble(torch.device("cuda", device), dtype)
    return _troubles[dtype] is None


def triton_trouble() -> str | None:
    """Returns why this process gave up Triton's kernels. None: it did not, or has not tried them."""
    return next((trouble for trouble in _troubles.values() if trouble), None)


def _trouble(device: torch.device, dtype: torch.dtype) -> str | None:
    """Returns what is wrong with the kernels on a device, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return "the kernels were first asked for inside a CUDA graph capture, where they cannot be checked"
    try:
        difference = largest_difference(normalize_triton, normalize_groups, device, dtype)
    except Exception as error:  # a compiler and a driver fail in many ways, and none of them should end a run
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        return f"{type(error).__name__}: {first}"
    if not difference <= TOLERANCE[dtype]:  # NaN, too
        return f"results differ from the plain form by {difference:.1e} of the largest value, more than {TOLERANCE[dtype]:.0e}"
    return None


def largest_difference(form: Form, plain: Form, device: torch.device, dtype: torch.dtype) -> float:
    """Returns how far a form is from another on a small batch: outputs, moments and gradients, as a share of the largest value."""
    generator = torch.Generator().manual_seed(0)
    shape = (CHECKED_GROUPS * CHECKED_EXAMPLES, CHECKED_WIDTH, CHECKED_WIDTH, CHECKED_CHANNELS)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        drawn = torch.randn(2, *shape, generator=generator)
        drawn[0] = drawn[0] * 2.0 + 3.0  # inputs; a mean of the gradients would only drown sums in rounding
        inputs, direction = drawn.to(device, dtype).permute(0, 1, 4, 2, 3).unbind()
        affine = (torch.randn(2, CHECKED_CHANNELS, generator=generator) + 1.5).to(device)
        ours, theirs = (_everything(one, inputs, direction, affine) for one in (form, plain))
        shares = [(a.float() - b.float()).abs().max() / b.float().abs().max() for a, b in zip(ours, theirs, strict=True)]
        if any(a.dtype != b.dtype or a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
            raise TrainingError("results have other types or shapes than those of the plain form")
        return float(torch.stack(shares).max())


def _everything(form: Form, inputs: Tensor, direction: Tensor, affine: Tensor) -> list[Tensor]:
    places = [item.detach().requires_grad_() for item in (inputs, affine[0], affine[1])]
    outputs, moments = form(places[0], CHECKED_GROUPS, places[1], places[2], 1e-5)
    gradients: Any = torch.autograd.grad(outputs, places, direction)
    return [outputs.detach(), moments.mean, moments.variance, *gradients]
