"""The gradient noise scale: squared gradients of micro-batches at the same weights, as raw sums, so that every estimate stays a choice.

McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162, appendix A.1. `gapbench.analysis.noise_scale` makes tr(Sigma), |G|^2 and their
ratio of them. With batch norm the examples of a norm group are coupled, so that the smallest unit is a group: a ghost batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.layers.rows import row_squares
from gapbench.probes.state import Objective, ObjectiveBatch, TrainState

FEWEST = 4
"""Blocks that estimates of the noise's spread need: products of blocks that have nothing in common."""
UNCOUPLED_EXAMPLES = 32
"""Examples of a micro-batch where no batch norm couples them: a compromise between calls and the precision of tr(Sigma)."""
COLUMNS = 1 << 20
"""Columns of the block means whose products are summed at once, in float64."""


def noise_scale(state: TrainState, *, examples: int = 2048, micro_batch: int = 0, blocks: int = 16) -> dict[str, Tensor]:
    """Probe mode: the weights stand still while fresh examples of the training distribution are drawn.

    Args:
        state: the training state; its objective is asked for `examples` gradients in micro-batches.
        examples: of each replica, in all.
        micro_batch: examples of a micro-batch; 0: a norm group, or 32 where there is no batch norm. Rounded to whole norm groups.
        blocks: into which the micro-batches are put for intervals.

    Returns:
        `noise_size` b and `noise_count` M; `noise_squares/bucket` [replica, K]: the mean of |g_m|^2 in each of K blocks;
        `noise_products/bucket` [replica, K (K + 1) / 2]: h_j . h_k of the blocks' mean gradients, row by row of the upper triangle;
        `noise_mean_square` s and `noise_square_of_mean` q, whole and of each layer.
    """
    objective = state.objective
    group = objective.batch().group
    # With batch norm there is nothing smaller than a norm group.
    size = max(1, micro_batch // group) * group if micro_batch or group > 1 else UNCOUPLED_EXAMPLES
    each = max(1, examples // (size * blocks))
    if blocks < FEWEST:
        raise TrainingError(f"noise_scale needs at least {FEWEST} blocks, not {blocks}")
    squares: list[Float[Tensor, " replica"]] = []
    means: list[Float[Tensor, "replica parameters"]] = []
    by_layer = torch.zeros(())
    for block in range(blocks):
        total = torch.zeros_like(state.weights)
        square = torch.zeros(len(state.weights), dtype=torch.float64, device=state.weights.device)
        for number in range(each):
            gradient = objective.gradient(objective.fresh(size, block * each + number, purpose="noise scale"))
            square += row_squares(gradient)
            by_layer = by_layer.to(gradient.device) + state.by_layer(gradient).double() ** 2
            total += gradient
        squares.append(square / each)
        means.append(total / each)
    whole = torch.stack(means).mean(dim=0)
    ones = torch.ones(len(state.weights), dtype=torch.float64, device=state.weights.device)
    return {
        "noise_size": size * ones,
        "noise_count": each * blocks * ones,
        "noise_squares/bucket": torch.stack(squares, dim=1),
        "noise_products/bucket": _products(means),
        "noise_mean_square": torch.stack(squares).mean(dim=0),
        "noise_mean_square/layer": by_layer / (each * blocks),
        "noise_square_of_mean": row_squares(whole),
        "noise_square_of_mean/layer": state.by_layer(whole).double() ** 2,
    }


def noise_scale_stream(state: TrainState, *, pieces: int = 8) -> dict[str, Tensor]:
    """Stream mode: the micro-batches that an update is made of anyway; where it is made in one piece, its batch once more in pieces.

    At stage `micro-batch`: what is returned is added up over the micro-batches of an update, so that sums come out.

    Args:
        state: the state after a micro-batch's backward pass.
        pieces: into how many a batch is cut that the update does not cut: as many whole norm groups as divide it, at most these.

    Returns:
        `noise_stream_count`, M, and `noise_stream_squares`, the sum of |g_m|^2; where the batch was cut for this probe alone also
        `noise_stream_square_of_mean`, |mean g_m|^2, which is elsewhere the square of `gradient_norm`. What is not measured is NaN, and so
        recorded nowhere: all of it where the batch is one group, or cut into pieces of unequal sizes.
    """
    ones = torch.ones_like(state.gradient_norm, dtype=torch.float64)
    unknown = torch.full_like(ones, torch.nan)
    nothing = {"noise_stream_count": unknown, "noise_stream_squares": unknown, "noise_stream_square_of_mean": unknown}
    if state.micro_batches == 0:
        return nothing  # the estimates are of pieces of one size
    if state.micro_batches > 1:
        return nothing | {"noise_stream_count": ones, "noise_stream_squares": row_squares(state.gradients)}
    batch = state.objective.batch()
    units = batch.examples // batch.group
    count = max((number for number in range(2, min(pieces, units) + 1) if units % number == 0), default=1)
    if count == 1:
        return nothing
    found = squares_of_pieces(state.objective, batch.split(batch.examples // count))
    return {
        "noise_stream_count": torch.full_like(found.squares, count),
        "noise_stream_squares": found.squares,
        "noise_stream_square_of_mean": found.square_of_mean,
    }


@dataclass(frozen=True)
class Pieces:
    """Squared gradients of the pieces of a batch at the same weights, float64."""

    size: int
    """b, examples of a piece."""
    count: int
    """M."""
    squares: Float[Tensor, " replica"]
    """The sum of |g_m|^2."""
    square_of_mean: Float[Tensor, " replica"]
    """|mean g_m|^2."""


def squares_of_pieces(objective: Objective, parts: Sequence[ObjectiveBatch]) -> Pieces:
    """Returns the squared gradients of pieces of equal size at the present weights."""
    first = objective.gradient(parts[0])
    squares, total = row_squares(first), first
    for part in parts[1:]:
        gradient = objective.gradient(part)
        squares = squares + row_squares(gradient)
        total += gradient
    return Pieces(parts[0].examples, len(parts), squares, row_squares(total / len(parts)))


def _products(means: list[Float[Tensor, "replica parameters"]]) -> Float[Tensor, "replica pairs"]:
    """Returns the upper triangle, diagonal included, of the products of rows."""
    count = len(means)
    replicas, columns = means[0].shape
    sums = torch.zeros(replicas, count, count, dtype=torch.float64, device=means[0].device)
    for start in range(0, columns, COLUMNS):
        part = torch.stack([mean[:, start : start + COLUMNS] for mean in means], dim=1).double()
        sums += part @ part.transpose(1, 2)
    rows, others = torch.triu_indices(count, count)
    return sums[:, rows, others]
