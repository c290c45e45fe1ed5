"""What a worker trains with: the engine, torch's serialization and the data sets. Tests give the worker another one."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from gapbench import sizing
from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import DeviceError
from gapbench.core.events import Event, Outcome
from gapbench.execution.executor import Setup
from gapbench.suite.runspec import RunSpec


class Backend(Protocol):
    """The parts of a worker that need torch."""

    def prepare(self, setup: Setup) -> None:
        """Loads plugins and libraries, sets threads, checks the device. Raises GapbenchError where that fails."""
        ...

    def train(
        self,
        specs: Sequence[RunSpec],
        *,
        emit: Callable[[Event], None],
        stop: Callable[[], Outcome | None],
        snapshots: Sequence[Mapping[str, Any]] | None,
        checkpoint_seconds: float,
        compiles: bool | None,
    ) -> None:
        """Loads the data of the runs and trains them, as `gapbench.engine.train` does; `compiles`: see `JobOrder`."""
        ...

    def dump(self, value: Any, file: BinaryIO) -> None:
        """Serializes snapshots or weights."""
        ...

    def load(self, payload: bytes) -> Any:
        """Returns what `dump` serialized."""
        ...

    def lacks_memory(self, error: BaseException) -> bool:
        """Whether an exception means that memory did not suffice."""
        ...


class TorchBackend:
    """The real one."""

    def __init__(self) -> None:
        self._setup: Setup | None = None

    def prepare(self, setup: Setup) -> None:
        """Imports torch with the slot's threads, checks that it sees the device, loads plugins."""
        import torch

        from gapbench.workloads.counting import answers

        torch.set_num_threads(setup.threads)
        torch.set_num_interop_threads(1)
        if setup.device.startswith("cuda") and not torch.cuda.is_available():
            raise DeviceError(
                f"device {setup.device_label}: torch {torch.__version__} cannot use it (driver too old, or a build without CUDA); "
                "`gapbench doctor` says more, --devices cpu trains without it"
            )
        load_plugins(setup.plugins)
        sizing.count_with(answers)
        self._setup = setup

    def train(self, specs: Sequence[RunSpec], *, compiles: bool | None, **how: Any) -> None:
        """Trains with the engine."""
        import torch

        from gapbench import engine
        from gapbench.workloads import datasets

        assert self._setup is not None
        device, kind = self._setup.device, self._setup.device.partition(":")[0]
        setup = self._setup
        context = datasets.DataContext(data_dir=setup.data_dir, cache_dir=setup.cache_dir, offline=setup.offline, suite_dir=setup.suite_dir)
        pool = datasets.load(specs[0].dataset, context)
        splits = [datasets.split(pool, spec) for spec in specs]
        micro = sizing.micro_batch_size(specs[0], kind)
        if compiles is None:
            compiles = sizing.worth_compiling(specs[0], replicas=len(specs), device_kind=kind)
        again = sizing.recomputes(specs[0], kind)
        engine.train(specs, pool, splits, device=device, micro_batch_size=micro, compiles=compiles, recomputes=again, **how)
        if kind != "cpu":  # what torch keeps of freed memory for its next use, a job in another slot of the same GPU may need
            torch.cuda.empty_cache()

    def dump(self, value: Any, file: BinaryIO) -> None:
        """Serializes with torch.save."""
        import torch

        torch.save(value, file)

    def load(self, payload: bytes) -> Any:
        """Reads with torch.load, tensors and plain values only: a checkpoint cannot run code."""
        import torch

        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)

    def lacks_memory(self, error: BaseException) -> bool:
        """Knows Python's, CUDA's and the CPU allocator's ways to say it."""
        import torch

        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        words = ("out of memory", "DefaultCPUAllocator", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
        return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
