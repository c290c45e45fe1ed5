"""Which program a side is: names -> loops, built on a task and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from gapbench.bench.ours import OurFeed, Ours
from gapbench.bench.peers.chunked import Chunked
from gapbench.bench.peers.loader import Loader
from gapbench.bench.peers.memory import Memory
from gapbench.bench.peers.parts import MOST_WORKERS
from gapbench.bench.peers.reference import Reference
from gapbench.bench.peers.released import Released
from gapbench.bench.peers.resident import Resident
from gapbench.bench.task import Precision, Task
from gapbench.workloads.datasets.arrays import Pool


class Loop(Protocol):
    """Anything that can be timed."""

    form: str

    def run(self) -> Iterator[int]:
        """Works for ever; yields the number of examples after each update."""
        ...


@dataclass(frozen=True)
class Build:
    """What a loop is built from."""

    task: Task
    pool: Pool
    precision: Precision
    device: torch.device
    workers: int
    compiled: bool = True
    """False in the correctness gate: compiled or not, the peer is the same program."""


def _ours(**how: Any) -> Callable[[Build], Loop]:
    return lambda b: Ours(b.task, b.pool, precision=b.precision, device=b.device, **how)


PROGRAMS: Mapping[str, Callable[[Build], Loop]] = {
    "ours": _ours(),
    "ours singly": _ours(singly=True),
    "ours without probes": _ours(probes=False),
    "ours with default probes": _ours(chosen=()),
    "ours with noise scale": _ours(chosen=("noise_scale_stream",)),
    "ours with evaluation": _ours(evaluation=True),
    "ours without ghosts": _ours(ghosts=False),
    "our feed": lambda b: OurFeed(b.task, b.pool, device=b.device),
    "loader": lambda b: Loader(b.task, b.pool.images, b.pool.labels, device=b.device, workers=b.workers),
    "reference": lambda b: Reference(b.task, b.pool.images, b.pool.labels, precision=b.precision, device=b.device, workers=b.workers),
    "released": lambda b: Released(b.task, b.pool.images, b.pool.labels, precision=b.precision, device=b.device, workers=b.workers),
    "resident": lambda b: Resident(b.task, b.pool.images, b.pool.labels, precision=b.precision, device=b.device, compiled=b.compiled),
    "chunked": lambda b: Chunked(b.task, b.pool.images, b.pool.labels, precision=b.precision, device=b.device),
    "memory": lambda b: Memory(b.task, b.pool.images, b.pool.labels, precision=b.precision, device=b.device),
}
"""Every program that a side of a case may name."""


def workers_of(workers: int | None, threads: int) -> int:
    """Returns how many workers a DataLoader gets."""
    return min(MOST_WORKERS, threads) if workers is None else workers
