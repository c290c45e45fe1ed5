"""Whether noise does what it is for: the covariance of noisy gradients over that of the reference batch size, at the same weights.

Multiplicative noise promises a ratio of 1. With batch norm over the whole batch it falls short, because such a batch's gradients of
single examples are others than those of a small batch. The ratio is one of traces, over batches of the run's own examples.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gapbench.engine.feed import Batch, Feed
from gapbench.engine.program import Program
from gapbench.suite.runspec import RunSpec

LARGE_BATCHES, SMALL_BATCHES = 12, 48
"""Gradients that each trace is estimated from. It sums many directions, so that a dozen give it to about a tenth."""
FRACTIONS = (0.1, 0.5)
"""Of training: the ratio is measured at the first evaluation from each on."""


def covariance_ratio(program: Program, feed: Feed, spec: RunSpec, update: int, micro_batch_size: int) -> list[float] | None:
    """Returns the ratio of each replica after `update` updates; None where there is no noise or are too few batches.

    Changes neither weights nor norm statistics. A trace is that of the gradients' covariance over batches.

    Args:
        program: with the network in training mode.
        feed: of its examples.
        spec: of the first replica.
        update: its number; batches are those of the updates that follow, and again from the first where training ends.
        micro_batch_size: examples that are computed at once; the small batch is computed whole.
    """
    small = spec.reference_batch_size
    updates = [(update + position) % spec.updates for position in range(min(LARGE_BATCHES, spec.updates))]
    each = max(1, min(spec.batch_size // small, -(-SMALL_BATCHES // len(updates))))
    if not program.noise.multiplicative or len(updates) < 2 or spec.batch_size < small:
        return None
    devices = [feed.device] if feed.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        noisy = _trace(program, ((number, feed.micro_batches(number, micro_batch_size)) for number in updates))
        firsts = [number * spec.batch_size + position * small for number in updates for position in range(each)]
        plain = _trace(program, ((None, [feed.piece(first, small)]) for first in firsts))
    for norm in program.network.norms:
        norm.forget_pending()
    return [float(value) for value in (noisy / plain).tolist()]


def _trace(program: Program, batches: Iterable[tuple[int | None, Iterable[Batch]]]) -> Tensor:
    """Returns the trace of the covariance of gradients, [replica]; with the noise of an update where its number is given."""
    network = program.network
    total, squares, count = torch.zeros_like(network.gradients), torch.zeros(len(network.gradients), dtype=torch.float64), 0
    squares = squares.to(total.device)
    for number, pieces in batches:
        rows = program.gradients(number, pieces)
        total += rows
        squares += rows.double().square().sum(dim=1)
        count += 1
    return (squares - total.double().square().sum(dim=1) / count) / (count - 1)
