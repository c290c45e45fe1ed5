"""The peers: loops as people write them with torch and torchvision, one file each, to be read and judged by themselves.

All train the same architecture from the same initial weights with the same batch size, optimizer constants and clipping. What differs
is how: each file says who runs training like this, and why it is as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gapbench.bench.cases import Precision, Task
from gapbench.workloads.datasets.arrays import Pool


@dataclass(frozen=True)
class Build:
    """What a loop is built from."""

    task: Task
    pool: Pool
    precision: Precision
    device: torch.device
    workers: int = 0
    """Of a DataLoader."""
    compiled: bool = True
    """False in the correctness gate: compiled or not, the peer is the same program."""

    @property
    def mixed(self) -> bool:
        """Whether a loop that keeps float32 weights computes in autocast."""
        return self.precision != "fp32"


class Loop(Protocol):
    """Anything that can be timed."""

    form: str
    """How an update is computed, in a word or two; recorded with every timing."""

    def run(self) -> Iterator[int]:
        """Works on its own data path for ever; yields the number of examples after each update (of all replicas)."""
        ...


class Peer(Loop, Protocol):
    """A loop that is ready to train."""

    modules: list[nn.Module]
    """The networks, one a replica."""

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """Makes one update on a given batch (float32 [batch, channels, height, width]) and returns its loss before the update."""
        ...
