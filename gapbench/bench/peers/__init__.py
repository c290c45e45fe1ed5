"""The peers: loops as people write them with torch and torchvision, one file each, to be read and judged by themselves.

All train the same architecture from the same initial weights with the same batch size, optimizer constants and clipping. What differs
is how: each file says who runs training like this, and why it is as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class Loop(Protocol):
    """Anything that can be timed."""

    form: str
    """How an update is computed, in a word or two; recorded with every timing."""

    def run(self) -> Iterator[int]:
        """Works on its own data path for ever; yields the number of examples after each update (of all replicas)."""
        ...


class Peer(Loop, Protocol):
    """A loop that is ready to train."""

    @property
    def modules(self) -> list[nn.Module]:
        """The networks, one a replica."""
        ...

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """Makes one update on a given batch (float32 [batch, channels, height, width]) and returns its loss before the update."""
        ...
