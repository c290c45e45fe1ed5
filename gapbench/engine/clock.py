"""Time in three buckets (training, evaluation and probes, everything else), and the memory's high-water mark."""

from __future__ import annotations

import time

import psutil
import torch


class Clock:
    """Adds the time since its last lap to a bucket, after the device has finished what belongs to it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._last = time.perf_counter()
        self.elapsed = 0.0
        """Seconds of the last lap."""

    def lap(self, buckets: dict[str, float], name: str) -> None:
        """Books the time since the last lap on `name`. Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.elapsed = now - self._last
        self._last = now
        buckets[name] += self.elapsed

    @property
    def elapsed_since_start(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start


def peak_memory_mib(device: torch.device) -> float:
    """Returns the peak of the device's memory in MiB; on the CPU the process's resident memory, its peak where the system tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", None)  # Windows
    if peak is None:
        try:
            import resource
            import sys

            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        except ImportError:
            peak = memory.rss
    return float(peak) / 2**20
