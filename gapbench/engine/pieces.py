"""Pieces: the batch of an update as it is computed, whole or cut into micro-batches, each with its share of the update.

Pieces of a full batch are of one size but for the last. A ragged batch under ghost batch norm is cut between its groups, and all groups
count alike, however many examples they have, as in the released code of Hoffer et al. 2017 (bigBatch, main_gbn.py: gradients of the chunks
are added up and divided by their number).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from gapbench.suite.batches import UpdateBatch, chunk_size

WHOLE = Fraction(1)
"""The share of a batch that is not cut."""


Shape: TypeAlias = tuple[tuple[int, Fraction, int | None], ...]
"""Of an update: examples, share and size of ghost groups of each of its pieces."""


class Piece(NamedTuple):
    """A part of a batch that is computed at once."""

    first: int
    """Position of its first example."""
    size: int
    share: Fraction
    """Of the update's loss and gradient."""
    group_size: int | None = None
    """Examples of its ghost groups, of which the last may be smaller, where the batch is ragged; None: as the norm layers have it."""


def cut(batch: UpdateBatch, micro_batch_size: int, ghost_batch_size: int | None) -> Iterator[Piece]:
    """Yields the pieces of a batch, in order.

    Args:
        batch: of an update.
        micro_batch_size: examples of a piece, at most; a multiple of the ghost batch size where there is one.
        ghost_batch_size: of the run.
    """
    group = unit = None
    length, span = batch.size, micro_batch_size
    if ghost_batch_size is not None and batch.size < batch.batch_size:
        group = unit = chunk_size(batch, ghost_batch_size)
        length, span = -(-batch.size // unit), max(1, micro_batch_size // ghost_batch_size)
    for start in range(0, length, span):
        share = Fraction(min(span, length - start), length) if span < length else WHOLE
        first, stop = (start, start + span) if unit is None else (start * unit, (start + span) * unit)
        yield Piece(batch.first + first, min(stop, batch.size) - first, share, group)
