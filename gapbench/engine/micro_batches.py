"""Micro-batches: an update computed in pieces, only where that is exact.

Plain batch norm over a piece is ghost batch norm, another method. So a batch is cut only where the ghost batch size divides the
pieces, or where nothing couples the examples of a batch; a model of a user's own is put to the test before the first update.
"""

from __future__ import annotations

import torch

from gapbench.core.errors import TrainingError
from gapbench.engine.feed import Feed
from gapbench.engine.program import Program
from gapbench.suite.runspec import RunSpec

TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2}
"""Difference of logits, relative to their largest, that rounding may explain. Statistics of 2 groups instead of 1 change them by more
than 0.05 up to groups of some hundred examples."""


def check_exact(program: Program, feed: Feed, spec: RunSpec, micro_batch_size: int) -> None:
    """Raises TrainingError unless updates in micro-batches of this size are those of the whole batch, but for rounding."""
    largest = feed.batches.largest
    if micro_batch_size < 1 or largest % micro_batch_size:
        raise TrainingError(f"a batch of {largest} cannot be cut into micro-batches of {micro_batch_size}")
    if micro_batch_size == largest:
        return
    ghost = spec.ghost_batch_size
    if program.network.norms and (ghost is None or micro_batch_size % ghost):
        size = "off (the whole batch)" if ghost is None else str(ghost)
        raise TrainingError(
            f"micro-batches of {micro_batch_size} would change batch norm, whose ghost batch size is {size}: "
            "train the batch whole, or set a ghost batch size that divides the micro-batch"
        )
    difference = _coupling(program, feed, ghost if program.network.norms and ghost is not None else 1)
    if not difference <= TOLERANCE[spec.precision]:
        raise TrainingError(
            f"model {spec.model.name} couples the examples of a batch, or draws its own random numbers (logits change by {difference:.1e} "
            "when a batch is cut): its updates cannot be computed in micro-batches"
        )


@torch.no_grad()
def _coupling(program: Program, feed: Feed, unit: int) -> float:
    """Returns how much logits of 2 x `unit` examples change, relative to the largest, when each half is computed by itself."""
    devices = [feed.device] if feed.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        whole = program.forward(feed.piece(0, 2 * unit))
        halves = torch.cat([program.forward(feed.piece(first, unit)) for first in (0, unit)], dim=2)
    for norm in program.network.norms:
        norm.forget_pending()
    return float((whole - halves).abs().max() / whole.abs().max().clamp_min(1e-12))
