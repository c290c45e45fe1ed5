"""Recorded updates: the work of an update on a GPU, recorded once as a CUDA graph and started again in one call.

A network of many small kernels waits for the host, which takes longer to start a kernel than the GPU to run it. A recorded update starts
all of them at once. It reads and writes only memory that stays where it is, and nothing in it may ask the device for a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

WARM_UPS = 2
"""Times that an update runs on the side stream before it is recorded: libraries choose kernels and workspaces at their first calls."""


class Graphs(ABC):
    """Where updates are recorded."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns a function that does again what `work` does, on the same memory. `work` is also run, and changes that memory."""


class CudaGraphs(Graphs):
    """CUDA graphs that share one pool of memory, since no two of them run at a time and none leaves anything in it.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Graphs`."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: another one may be fetching the next examples, and must not spoil the recording.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay
