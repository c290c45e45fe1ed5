"""Ghost batch norm of channels-last tensors as two Triton kernels forward and two backward, whatever the number of groups.

In channels-last memory a batch is a matrix of rows and channels, and a contiguous group of examples is a contiguous block of its
rows: [groups, rows, channels]. One program takes one *split* of a group's rows for a *tile* of its channels. The first kernel of each
pass reduces every split; the second merges the splits of its group, each time in the same order, and computes the elements. There are
no atomics, so the same input gives the same bits, and how a group is cut depends on its own shape alone, so its bits do not depend on
the groups beside it.

The variance is never a difference of large numbers: each lane runs Welford's update down its rows, and lanes and splits are merged by
the rule of Chan, Golub and LeVeque (1979). Statistics and arithmetic are float32, whatever the type of the activations.

Only this module imports triton; `ghost_batch_norm` imports it where it may be used.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.layers.ghost_math import normalize_groups

TILE = 2048
"""Elements that a program holds at once: 16 a thread at triton's four warps."""
SPLIT = 8 * TILE
"""Elements that are worth a program of their own: each merges all splits of its group, which must stay small beside its own work."""
MERGED = 2048
"""Elements of a merge at most: the partial results of all splits for a tile of channels, which are held at once."""
SPLITS = 64
"""Splits of a group at most."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
"""Of the compiler, said here because its own defaults change with its versions, and with them the last bits of results."""


@dataclass(frozen=True)
class Tiling:
    """How the rows and channels of a group are cut. All but `rows_per_split` are powers of two, and that is a multiple of `rows`."""

    rows: int
    channels: int
    splits: int
    rows_per_split: int


def tiling(rows: int, channels: int) -> Tiling:
    """Returns the cut of a group [rows, channels]: a plain function of its shape, the same on every device and in every capture."""
    wide = min(64, triton.next_power_of_2(channels))
    high = min(TILE // wide, triton.next_power_of_2(rows))
    worth = max(1, min(rows * wide // SPLIT, MERGED // wide, SPLITS))
    splits = 1 << (worth.bit_length() - 1)
    return Tiling(high, wide, splits, triton.cdiv(triton.cdiv(rows, splits), high) * high)


# Kernels are compiled, not called: what checks types while tests run must not wrap them, hence `no_type_check`. Every shape of a group
# has kernels of its own, with loops of known length; a network has few such shapes.


@triton.jit
@no_type_check
def split_moments(
    inputs,
    means,
    squares,
    rows,
    channels,
    rows_per_split: tl.constexpr,
    splits: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Writes the mean and the sum of squared deviations of each split: `means`, `squares` [groups, splits, channels]."""
    group, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    lane = tl.arange(0, tile_rows)[:, None]
    inside = (channel < channels)[None, :]
    first = split * rows_per_split
    pointers = inputs + (group.to(tl.int64) * rows + first) * channels + lane * channels + channel[None, :]
    seen = tl.zeros([tile_rows, 1], tl.float32)
    mean = tl.zeros([tile_rows, tile_channels], tl.float32)
    square = tl.zeros([tile_rows, tile_channels], tl.float32)
    for start in range(0, rows_per_split, tile_rows):
        present = (first + start + lane) < rows
        value = tl.load(pointers, mask=present & inside, other=0.0).to(tl.float32)
        seen += present.to(tl.float32)
        change = tl.where(present, value - mean, 0.0)
        mean += change / tl.maximum(seen, 1.0)
        square += change * (value - mean)
        pointers += tile_rows * channels
    # Lanes have seen numbers of rows that differ by one; where a split lies beyond the end of its group, none.
    merged = tl.sum(mean * seen, axis=0) / tl.maximum(tl.sum(seen, axis=0), 1.0)
    apart = mean - merged[None, :]
    spread = tl.sum(square + apart * apart * seen, axis=0)
    out = tl.program_id(0).to(tl.int64) * channels + channel
    tl.store(means + out, merged, mask=channel < channels)
    tl.store(squares + out, spread, mask=channel < channels)


@triton.jit
@no_type_check
def normalize_elements(
    inputs,
    outputs,
    weight,
    bias,
    means,
    squares,
    statistics,
    epsilon,
    groups,
    rows,
    channels,
    rows_per_split: tl.constexpr,
    splits: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Merges the splits' moments, normalizes, and writes `statistics` [3, groups, channels]: mean, unbiased variance, 1 / deviation."""
    program = tl.num_programs(0) - 1 - tl.program_id(0)  # backwards: what the first kernel read last is still in the cache
    group, split = program // splits, program % splits
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    inside = (channel < channels)[None, :]
    part = tl.arange(0, splits)[:, None]
    held = tl.minimum(tl.maximum(rows - part * rows_per_split, 0), rows_per_split).to(tl.float32)
    parts = (group.to(tl.int64) * splits + part) * channels + channel[None, :]
    part_means = tl.load(means + parts, mask=inside, other=0.0)
    part_squares = tl.load(squares + parts, mask=inside, other=0.0)
    count = rows * 1.0
    mean = tl.sum(part_means * held, axis=0) / count
    apart = part_means - mean[None, :]
    square = tl.sum(part_squares + apart * apart * held, axis=0)
    scale = tl.rsqrt(square / count + epsilon)
    if split == 0:
        out = statistics + group.to(tl.int64) * channels + channel
        plane = groups * channels
        tl.store(out, mean, mask=channel < channels)
        tl.store(out + plane, square / (count - 1.0), mask=channel < channels)
        tl.store(out + plane * 2, scale, mask=channel < channels)

    factor = tl.load(weight + channel, mask=channel < channels, other=0.0)
    shift = tl.load(bias + channel, mask=channel < channels, other=0.0)
    lane = tl.arange(0, tile_rows)[:, None]
    first = split * rows_per_split
    offsets = (group.to(tl.int64) * rows + first) * channels + lane * channels + channel[None, :]
    for start in range(0, rows_per_split, tile_rows):
        mask = ((first + start + lane) < rows) & inside
        value = tl.load(inputs + offsets, mask=mask, other=0.0).to(tl.float32)
        normalized = (value - mean[None, :]) * scale[None, :]
        result = normalized * factor[None, :] + shift[None, :]
        tl.store(outputs + offsets, result.to(outputs.dtype.element_ty), mask=mask)
        offsets += tile_rows * channels


@triton.jit
@no_type_check
def split_gradients(
    gradients,
    inputs,
    statistics,
    sums,
    groups,
    rows,
    channels,
    rows_per_split: tl.constexpr,
    splits: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Writes the sums over each split of the gradient, and of the gradient times the normalized input: [2, groups, splits, channels]."""
    group, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    inside = (channel < channels)[None, :]
    own = statistics + group.to(tl.int64) * channels + channel
    plane = groups * channels
    mean = tl.load(own, mask=channel < channels, other=0.0)
    scale = tl.load(own + plane * 2, mask=channel < channels, other=0.0)
    lane = tl.arange(0, tile_rows)[:, None]
    first = split * rows_per_split
    offsets = (group.to(tl.int64) * rows + first) * channels + lane * channels + channel[None, :]
    plain = tl.zeros([tile_rows, tile_channels], tl.float32)
    scaled = tl.zeros([tile_rows, tile_channels], tl.float32)
    for start in range(0, rows_per_split, tile_rows):
        mask = ((first + start + lane) < rows) & inside
        gradient = tl.load(gradients + offsets, mask=mask, other=0.0).to(tl.float32)
        value = tl.load(inputs + offsets, mask=mask, other=0.0).to(tl.float32)
        plain += gradient
        scaled += gradient * ((value - mean[None, :]) * scale[None, :])
        offsets += tile_rows * channels
    out = sums + tl.program_id(0).to(tl.int64) * channels + channel
    tl.store(out, tl.sum(plain, axis=0), mask=channel < channels)
    tl.store(out + plane * splits, tl.sum(scaled, axis=0), mask=channel < channels)


@triton.jit
@no_type_check
def input_gradients(
    gradients,
    inputs,
    results,
    weight,
    statistics,
    sums,
    groups,
    rows,
    channels,
    rows_per_split: tl.constexpr,
    splits: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Merges the splits' sums and writes the gradient of the inputs."""
    program = tl.num_programs(0) - 1 - tl.program_id(0)  # backwards, as `normalize_elements`
    group, split = program // splits, program % splits
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    inside = (channel < channels)[None, :]
    plane = groups * channels
    parts = (group.to(tl.int64) * splits + tl.arange(0, splits)[:, None]) * channels + channel[None, :]
    count = rows * 1.0
    plain = tl.sum(tl.load(sums + parts, mask=inside, other=0.0), axis=0) / count
    scaled = tl.sum(tl.load(sums + plane * splits + parts, mask=inside, other=0.0), axis=0) / count
    own = statistics + group.to(tl.int64) * channels + channel
    mean = tl.load(own, mask=channel < channels, other=0.0)
    scale = tl.load(own + plane * 2, mask=channel < channels, other=0.0)
    factor = tl.load(weight + channel, mask=channel < channels, other=0.0) * scale
    lane = tl.arange(0, tile_rows)[:, None]
    first = split * rows_per_split
    offsets = (group.to(tl.int64) * rows + first) * channels + lane * channels + channel[None, :]
    for start in range(0, rows_per_split, tile_rows):
        mask = ((first + start + lane) < rows) & inside
        gradient = tl.load(gradients + offsets, mask=mask, other=0.0).to(tl.float32)
        value = tl.load(inputs + offsets, mask=mask, other=0.0).to(tl.float32)
        normalized = (value - mean[None, :]) * scale[None, :]
        result = factor[None, :] * (gradient - plain[None, :] - normalized * scaled[None, :])
        tl.store(results + offsets, result.to(results.dtype.element_ty), mask=mask)
        offsets += tile_rows * channels


@torch.library.custom_op(
    "gapbench::ghost_norm",
    mutates_args=(),
    schema="(Tensor inputs, Tensor weight, Tensor bias, SymInt groups, float epsilon) -> (Tensor, Tensor)",
)
def ghost_norm(inputs: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Normalizes equal contiguous groups of examples by their own statistics, then scales and shifts channels.

    Differentiable twice in inputs, weight and bias. Backward of the backward goes through the plain form: exact, and dearer.

    Args:
        inputs: [batch, channels], or [batch, channels, height, width], float32 or bfloat16; copied where not channels-last in memory.
        weight: float32 [channels].
        bias: float32 [channels].
        groups: divides the batch; each needs two elements a channel or more.
        epsilon: added to the variance.

    Returns:
        Outputs in the type of the inputs, channels-last; and float32 [3, groups, channels], which has no gradient: mean, unbiased
        variance, and the factor 1 / sqrt(biased variance + epsilon).
    """
    inputs = _in_order(inputs)
    outputs, statistics = _empty_results(inputs, groups)
    rows, channels, cut, grid = _launch(inputs, groups)
    means, squares = torch.empty(2, groups, cut.splits, channels, dtype=torch.float32, device=inputs.device)
    arguments = (rows, channels, cut.rows_per_split, cut.splits, cut.rows, cut.channels)
    with _on(inputs):
        split_moments[grid](inputs, means, squares, *arguments, **OPTIONS)
        weight, bias = weight.contiguous(), bias.contiguous()
        normalize_elements[grid](inputs, outputs, weight, bias, means, squares, statistics, epsilon, groups, *arguments, **OPTIONS)
    return outputs, statistics


@ghost_norm.register_fake
def _(inputs: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> tuple[Tensor, Tensor]:
    return _empty_results(inputs, groups)


@torch.library.custom_op(
    "gapbench::ghost_norm_backward",
    mutates_args=(),
    schema="(Tensor gradients, Tensor inputs, Tensor weight, Tensor statistics, SymInt groups, float epsilon) -> (Tensor, Tensor)",
)
def ghost_norm_backward(
    gradients: Tensor, inputs: Tensor, weight: Tensor, statistics: Tensor, groups: int, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of `ghost_norm`: those of its inputs, and float32 [2, channels], those of bias and weight."""
    gradients, inputs = _in_order(gradients), _in_order(inputs)
    results = torch.empty_like(inputs, memory_format=_order(inputs))
    rows, channels, cut, grid = _launch(inputs, groups)
    sums = torch.empty(2, groups * cut.splits, channels, dtype=torch.float32, device=inputs.device)
    arguments = (groups, rows, channels, cut.rows_per_split, cut.splits, cut.rows, cut.channels)
    with _on(inputs):
        split_gradients[grid](gradients, inputs, statistics, sums, *arguments, **OPTIONS)
        input_gradients[grid](gradients, inputs, results, weight.contiguous(), statistics, sums, *arguments, **OPTIONS)
    return results, sums.sum(dim=1)


@ghost_norm_backward.register_fake
def _(gradients: Tensor, inputs: Tensor, weight: Tensor, statistics: Tensor, groups: int, epsilon: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(inputs, memory_format=_order(inputs)), statistics.new_empty(2, inputs.shape[1])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    values, weight, _, ctx.groups, ctx.epsilon = inputs
    ctx.save_for_backward(values, weight, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # zeros for the statistics would cost a kernel


def _differentiate(ctx: Any, gradients: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if gradients is None:
        return None, None, None, None, None
    values, weight, statistics = ctx.saved_tensors
    results, sums = ghost_norm_backward(gradients, values, weight, statistics, ctx.groups, ctx.epsilon)
    return results, sums[1], sums[0], None, None


def _keep_for_second_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    gradients, values, weight, _, ctx.groups, ctx.epsilon = inputs
    ctx.save_for_backward(gradients, values, weight)


def _differentiate_twice(ctx: Any, of_results: Tensor, of_sums: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiates the gradients of the plain form instead, in which the statistics are functions of the inputs."""
    again = torch.is_grad_enabled()  # a third derivative is wanted
    with torch.enable_grad():
        # Views of their own: the incoming gradients may themselves be functions of inputs and weight, along paths that autograd adds.
        places = [item.view_as(item) if again and item.requires_grad else item.detach().requires_grad_() for item in ctx.saved_tensors]
        gradients, values, weight = places
        bias = torch.zeros_like(weight, requires_grad=True)
        outputs, _ = normalize_groups(values, ctx.groups, weight, bias, ctx.epsilon)
        of_values, of_weight, of_bias = torch.autograd.grad(outputs, (values, weight, bias), gradients, create_graph=True)
        first = (of_values, torch.stack([of_bias, of_weight]))
        second = torch.autograd.grad(first, places, (of_results, of_sums), create_graph=again)
    return *second, None, None, None


ghost_norm.register_autograd(_differentiate, setup_context=_keep_for_backward)
ghost_norm_backward.register_autograd(_differentiate_twice, setup_context=_keep_for_second_backward)


def _order(tensor: Tensor) -> torch.memory_format:
    if tensor.ndim not in (2, 4):
        raise TrainingError(f"ghost norm takes [batch, channels] and [batch, channels, height, width], not {tensor.ndim} dimensions")
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def _in_order(tensor: Tensor) -> Tensor:
    """Returns the tensor in the memory order that the kernels read; a copy only where it is in another."""
    return tensor.contiguous(memory_format=_order(tensor))


def _empty_results(inputs: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    outputs = torch.empty_like(inputs, memory_format=_order(inputs))
    return outputs, torch.empty(3, groups, inputs.shape[1], dtype=torch.float32, device=inputs.device)


def _launch(inputs: Tensor, groups: int) -> tuple[int, int, Tiling, tuple[int, int]]:
    """Returns rows of a group, channels, how they are cut, and the grid of programs: (groups x splits, tiles of channels)."""
    channels = inputs.shape[1]
    rows = inputs.numel() // channels // groups
    cut = tiling(rows, channels)
    return rows, channels, cut, (groups * cut.splits, triton.cdiv(channels, cut.channels))


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    # Triton launches on the current device. On the CPU kernels run under its interpreter, in tests.
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
