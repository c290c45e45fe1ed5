"""A batch size that follows the noise scale while a run trains: what is measured, how it is averaged, and when the size changes.

The rule is `gapbench.suite.regime.next_size`, after McCandlish et al. 2018. A measured batch is cut in the same way whatever the device
and its micro-batches, so that sizes are the same everywhere but where rounding tips one to the next multiple.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from gapbench.analysis.noise_scale import squared_gradient, trace_of_covariance
from gapbench.engine.feed import Batch, Feed
from gapbench.engine.program import Program
from gapbench.layers.rows import row_squares
from gapbench.probes import ObjectiveBatch
from gapbench.probes.noise_scale import Pieces, squares_of_pieces
from gapbench.probes.state import Objective
from gapbench.suite.batches import BatchTable, decided, decision_steps
from gapbench.suite.regime import next_size
from gapbench.suite.runspec import RunSpec

PIECES = 8
"""Into how many a measured batch is cut at most: from there on more pieces say little more of |G|^2."""


class Adaptation:
    """The decided sizes of one run, and the running estimate of its noise scale."""

    def __init__(self, spec: RunSpec) -> None:
        assert spec.adaptive_batch is not None
        self.rule = spec.adaptive_batch
        self._spec = spec
        self._steps = decision_steps(spec)
        self._sizes: list[int] = []
        self._waiting: list[Pieces] = []
        self.trace = self.square = 0.0
        """Exponentially weighted sums of the estimates of tr(Sigma) and |G|^2; that they start at 0 cancels in their ratio."""
        self.measurements = 0

    @property
    def noise_scale(self) -> float | None:
        """tr(Sigma) / |G|^2 in examples; infinite where |G|^2 is not positive, None before it was measured. Waits for the device."""
        self._settle()
        if not self.measurements or self.trace != self.trace or self.square != self.square:
            return None
        return max(self.trace, 0.0) / self.square if self.square > 0 else float("inf")

    @property
    def table(self) -> BatchTable:
        """The table of batches, as far as it is decided."""
        return decided(self._spec, self._sizes)

    def decide(self, batches: BatchTable, update: int) -> bool:
        """Decides on the size from the next update on, where that is due after `update` updates; returns whether it was."""
        due = bisect_right(self._steps, batches.examples(update) / self._spec.batch_size) - len(self._sizes)
        if not due:
            return False
        now = self._sizes[-1] if self._sizes else self._spec.batch_size
        self._sizes.extend([next_size(self.rule, self.noise_scale, now)] * due)  # a batch may be longer than the way to the next decision
        return True

    def measure(self, objective: Objective, update: int) -> None:
        """Measures the batch that the objective stands at, of an update counted from 0, where that is due. Never waits for the device."""
        if update % self.rule.measure_every:
            return
        parts = pieces_of(objective.batch())
        if len(parts) > 1:
            self._waiting.append(squares_of_pieces(objective, parts))

    def snapshot(self) -> dict[str, Any]:
        """Returns all that it takes to go on bit by bit."""
        self._settle()
        return {"sizes": list(self._sizes), "trace": self.trace, "square": self.square, "measurements": self.measurements}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned."""
        self._waiting.clear()
        self._sizes = [int(size) for size in snapshot["sizes"]]
        self.trace, self.square = float(snapshot["trace"]), float(snapshot["square"])
        self.measurements = int(snapshot["measurements"])

    def _settle(self) -> None:
        """Averages what waits on the device, in order: at decisions and snapshots, to the same bits whenever that is."""
        for pieces in self._waiting:
            self._average(pieces.size, pieces.count, _number(pieces.squares) / pieces.count, _number(pieces.square_of_mean))
        self._waiting.clear()

    def _average(self, size: int, count: int, mean_square: float, square_of_mean: float) -> None:
        kept = self.rule.smoothing
        self.trace = kept * self.trace + (1.0 - kept) * float(trace_of_covariance(mean_square, square_of_mean, size, count))
        self.square = kept * self.square + (1.0 - kept) * float(squared_gradient(mean_square, square_of_mean, count))
        self.measurements += 1


def pieces_of(batch: ObjectiveBatch) -> tuple[ObjectiveBatch, ...]:
    """Returns a batch in at most 8 pieces of equal size, in whole norm groups.

    Of the ways to cut it that leave the fewest examples over the one with most pieces; one piece where it is one norm group.
    """
    units = batch.examples // batch.group
    count = max(range(2, min(PIECES, units) + 1), key=lambda number: (units // number * number, number), default=1)
    size = units // count * batch.group
    return tuple(batch.part(number * size, (number + 1) * size) for number in range(count))


def _number(values: Tensor) -> float:
    """Returns the value of the one replica: a run whose batch size is its own trains alone."""
    return float(values[0])


# Whether noise does what it is for: the covariance of noisy gradients over that of the reference batch size, at the same weights.
#
# Multiplicative noise promises a ratio of 1. With batch norm over the whole batch it falls short, because such a batch's gradients of
# single examples are others than those of a small batch. The ratio is one of traces, over batches of the run's own examples.

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
    with torch.random.fork_rng(devices=devices), program.network.norms_unmoved():
        noisy = _trace(program, ((number, feed.micro_batches(number, micro_batch_size)) for number in updates))
        firsts = [feed.batches.at(number).first + position * small for number in updates for position in range(each)]
        plain = _trace(program, ((None, [feed.piece(first, small)]) for first in firsts))
    return [float(value) for value in (noisy / plain).tolist()]


def _trace(program: Program, batches: Iterable[tuple[int | None, Iterable[Batch]]]) -> Tensor:
    """Returns the trace of the covariance of gradients, [replica]; with the noise of an update where its number is given."""
    network = program.network
    total, squares, count = torch.zeros_like(network.gradients), torch.zeros(len(network.gradients), dtype=torch.float64), 0
    squares = squares.to(total.device)
    for number, pieces in batches:
        rows = program.gradients(number, pieces)
        total += rows
        squares += row_squares(rows)
        count += 1
    return (squares - row_squares(total) / count) / (count - 1)
