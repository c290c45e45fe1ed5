"""A batch size that follows the noise scale while a run trains: what is measured, how it is averaged, and when the size changes.

The rule is `gapbench.suite.adaptive.next_size`, after McCandlish et al. 2018. A measured batch is cut in the same way whatever the device
and its micro-batches, so that sizes are the same everywhere but where rounding tips one to the next multiple.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gapbench.analysis.noise_scale.estimators import squared_gradient, trace_of_covariance
from gapbench.probes import ObjectiveBatch
from gapbench.probes.noise_scale import Pieces, squares_of_pieces
from gapbench.probes.objective import Objective
from gapbench.suite.adaptive import next_size
from gapbench.suite.batches import BatchTable, decided, decision_steps
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
