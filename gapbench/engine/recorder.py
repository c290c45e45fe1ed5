"""The recorder: what probes and evaluations measured waits on the device and reaches the host at evaluations and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from gapbench.core.events import Event, Measured
from gapbench.probes import Layer
from gapbench.suite.batches import BatchTable


class Recorder:
    """Collects values and emits them as `Measured` events, in the order of updates."""

    def __init__(self, emit: Callable[[Event], None], batches: BatchTable, layers: Sequence[Layer]) -> None:
        self._emit = emit
        self._batches = batches
        self._layers = [layer.name for layer in layers]
        self._waiting: list[tuple[int, Mapping[str, Tensor]]] = []

    def follow(self, batches: BatchTable) -> None:
        """Takes another table of batches, which is the same for the updates that were made."""
        self._batches = batches

    def record(self, update: int, values: Mapping[str, Tensor]) -> None:
        """Keeps device tensors without waiting: [replica], [replica, layer] (named `metric/layer`), [replica, bucket] (`metric/bucket`)."""
        self._waiting.append((update, {name: value.detach().clone() for name, value in values.items()}))

    def flush(self, first_bad: Sequence[int]) -> None:
        """Emits everything that waits; of a diverged replica only what precedes the update it diverged at. Waits for the device."""
        for update, values in self._waiting:
            rows = {name: value.double().cpu().tolist() for name, value in values.items()}
            for replica, bad in enumerate(first_bad):
                if bad < 0 or update < bad:
                    self.emit(replica, update, {name: value[replica] for name, value in rows.items()})
        self._waiting.clear()

    def emit(self, replica: int, update: int, values: Mapping[str, float | list[float]]) -> None:
        """Emits values that are on the host already. Numbers that are not finite are left out: they are no measurements."""
        rows: list[tuple[str, str, float]] = []
        for name, value in values.items():
            metric = name.removesuffix("/layer").removesuffix("/bucket")
            if isinstance(value, list):
                labels = map(str, range(len(value))) if name.endswith("/bucket") else self._layers
                rows.extend((metric, label, item) for label, item in zip(labels, value, strict=True) if math.isfinite(item))
            elif math.isfinite(value):
                rows.append((metric, "", value))
        if rows:
            self._emit(Measured(replica, update, self._batches.examples(update), tuple(rows)))
