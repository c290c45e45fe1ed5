"""Into which micro-batches the batch of an update is cut, where that is exact.

The choice follows from the run and the kind of device alone, never from what memory happens to be free or who shares a stack, so that
a run gives the same bits wherever and however often it is started.
"""

from __future__ import annotations

from gapbench import catalog
from gapbench.cost.sizes import model_size
from gapbench.suite.runspec import RunSpec

MIB = 1 << 20
PIECE_MIB = {"cpu": 256.0, "cuda": 4096.0}
"""Activations that a micro-batch may keep. On a CPU core (measured, one thread): C1 at batch 1024, ghost 128 takes 1.45 s an update whole
(0.7 GB), 1.22 s in pieces of 256; F1 at 4096 (0.14 GB) 0.27 s whole, 0.32 s in pieces of 256; a residual network is as fast either way.
On a GPU the bound is a guess yet to be measured."""


def micro_batch_size(spec: RunSpec, device_kind: str) -> int:
    """Returns how many examples of a run are computed at once: the whole batch, or the largest exact piece within the bound.

    Args:
        spec: of the run.
        device_kind: "cpu" or "cuda".
    """
    sizes = exact_sizes(spec)
    size = model_size(spec)
    if size is None or len(sizes) == 1:
        return spec.batches.largest
    bound = PIECE_MIB.get(device_kind, PIECE_MIB["cpu"]) * MIB / 4.0 / max(1, size.activations)
    fitting = [examples for examples in sizes if examples <= bound]
    return max(fitting) if fitting else min(sizes)


def exact_sizes(spec: RunSpec) -> list[int]:
    """Returns the sizes of micro-batches that make the update of the whole batch, ascending; the last is the (largest) batch size.

    These are the divisors of the batch size that the ghost batch size divides, or, without batch norm, all its divisors. Plain batch
    norm is never cut: that would make it ghost batch norm. Smaller batches of the same run are cut into as many of these as they hold.
    """
    largest = spec.batches.largest
    models = catalog.models()
    coupled = spec.model.name not in models or models[spec.model.name].has_batch_norm(spec.model.options)
    unit = spec.ghost_batch_size if spec.ghost_batch_size is not None else largest if coupled else 1
    pieces = largest // unit
    return [unit * count for count in range(1, pieces + 1) if pieces % count == 0]
