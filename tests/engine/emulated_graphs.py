"""CUDA graphs as a CPU can have them: every operation of some work is noted with its tensors, and done again on the same memory.

What CUDA forbids in a recording is an error here, too: asking a tensor for a number. And what it freezes is frozen: a number that the host
gave an operation, the memory that an operation read and wrote, the order of operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from gapbench.engine.prepared import Graphs

ASKING = ("_local_scalar_dense", "nonzero")


class AskedError(Exception):
    """A recording asked the device for a number."""


class EmulatedGraphs(Graphs):
    """See `gapbench.engine.prepared.Graphs`."""

    def __init__(self) -> None:
        self.recordings: list[list[str]] = []
        """Names of the operations of every recording."""
        self.replays = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        for _ in range(2):
            work()
        noted = _Noted()
        with noted:
            work()
        self.recordings.append([str(operation[0]) for operation in noted.operations])

        def replay() -> None:
            self.replays += 1
            noted.replay()

        return replay


class _Noted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, list[Any]]] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if any(name in str(operation) for name in ASKING):
            raise AskedError(str(operation))
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        self.operations.append((operation, args, kwargs, tree_flatten(result)[0]))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for operation, args, kwargs, noted in self.operations:
            again = tree_flatten(operation(*args, **kwargs))[0]
            for old, new in zip(noted, again, strict=True):
                # A view or a result in place is that memory already; everything else goes to where it was.
                if isinstance(old, Tensor) and old.numel() and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
