"""The recorder: what probes measured goes to the host without anyone waiting for it, and is told at evaluations and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
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
        self._arrived: torch.cuda.Event | None = None
        """Reached when the device has sent everything that waits."""

    def follow(self, batches: BatchTable) -> None:
        """Takes another table of batches, which is the same for the updates that were made."""
        self._batches = batches

    def record(self, update: int, values: Mapping[str, Tensor]) -> None:
        """Keeps device tensors without waiting: [replica], [replica, layer] (named `metric/layer`), [replica, bucket] (`metric/bucket`)."""
        # From a GPU into pinned memory, when it comes to it.
        sent = {name: value.detach().to("cpu", non_blocking=True, copy=True) for name, value in values.items()}
        self._waiting.append((update, sent))
        devices = [value.device for value in values.values() if value.device.type == "cuda"]
        if devices:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(devices[0]))

    def flush(self, first_bad: Sequence[int]) -> None:
        """Emits everything that waits; of a diverged replica only what precedes the update it diverged at. Waits for the device."""
        if self._arrived is not None:
            self._arrived.synchronize()
        for update, values in self._waiting:
            rows = {name: value.double().tolist() for name, value in values.items()}
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
