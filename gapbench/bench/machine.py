"""Where a timing was made, with which versions and source, and whether the machine is quiet enough to time on. Needs no torch."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

import gapbench
from gapbench.core.errors import GapbenchError
from gapbench.core.machine import usable_cores
from gapbench.execution.devices import DeviceKind, find_gpus
from gapbench.store.provenance import cpu_name, git_state

BUSY = 0.3
"""Load of other programs, in cores, above which a timing means little."""
LOOKS_SECONDS = (1.0, 2.0)
"""Length of the first look, and of the second one where the first was busy."""

_SPEED_ROOMS = ("core", "layers", "workloads", "optimizers", "probes", "engine", "cost", "bench/peers")
_SPEED_FILES = ("bench/measure.py", "bench/programs.py")


@dataclass(frozen=True)
class Machine:
    """What speed depends on besides the case. Rounds of equal machines are counted together."""

    device_kind: DeviceKind
    machine: str
    """Processor with its cores; on CUDA the GPU, too. No host name: the next machine of the same kind goes on."""
    cores: int
    torch_version: str
    python_version: str
    gapbench_version: str
    source: str
    """Digest of the source that speed depends on, so that another engine starts its own rounds."""

    @property
    def columns(self) -> Mapping[str, str | int]:
        """Its columns in the table of timings."""
        return asdict(self)


def this_machine(kind: DeviceKind) -> Machine:
    """Returns this machine, as far as timings on its CPU or its first GPU are concerned."""
    cores = usable_cores()
    name = f"{cpu_name()}, {cores} {'core' if cores == 1 else 'cores'}"
    if kind == "cuda":
        name = f"{find_gpus()[0].label}, {name}"
    return Machine(kind, name, cores, metadata.version("torch"), platform.python_version(), gapbench.__version__, source_digest())


def details(kind: DeviceKind) -> dict[str, str | None]:
    """Returns what is recorded beside it and does not keep rounds apart."""
    return {"git_commit": git_state(Path(gapbench.__file__).parent)["git_commit"], "driver_version": _driver() if kind == "cuda" else None}


@functools.cache
def source_digest() -> str:
    """Returns a digest of the source files that speed depends on, 12 hex digits."""
    root = Path(gapbench.__file__).parent
    files = sorted(path for room in _SPEED_ROOMS for path in (root / room).rglob("*.py"))
    digest = hashlib.sha256()
    for path in (*files, *(root / name for name in _SPEED_FILES)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Watch:
    """How busy other programs keep this machine's cores from now on, while child processes of ours work."""

    def __init__(self) -> None:
        self._begun = _clocks()

    def others(self) -> float:
        """Returns the cores that other programs kept busy, on average; our own ended children are not counted.

        Windows does not tell what children took, so there it is always 0, and the look before a case has to do.
        """
        if os.name == "nt":
            return 0.0
        elapsed, busy, own = (now - begun for now, begun in zip(_clocks(), self._begun, strict=True))
        return max(0.0, (busy - own) / elapsed) if elapsed > 0.0 else 0.0


def load_of_others() -> float:
    """Returns how many cores other programs keep busy now; call it while nothing of ours runs. A blip is waited out."""
    for seconds in LOOKS_SECONDS:
        begun = _clocks()
        time.sleep(seconds)
        elapsed, busy, _ = (now - then for now, then in zip(_clocks(), begun, strict=True))
        load = busy / elapsed
        if load <= BUSY:
            break
    return load


def refuse_load(load: float, *, kept: bool) -> None:
    """Raises GapbenchError where other programs keep the machine too busy to time anything.

    Args:
        load: in cores.
        kept: whether anything was timed before.
    """
    if load > BUSY:
        again = "what was timed is kept; " if kept else ""
        raise GapbenchError(
            f"other programs keep {load:.1f} cores of this machine busy (more than {BUSY:g} makes timings worthless); {again}end them and "
            "run the same command again, or time all the same with --anyway, which marks the results"
        )


def _clocks() -> tuple[float, float, float]:
    """Returns the seconds by the clock, those that the cores we may use were busy, and those that this process and its children took."""
    cores = psutil.cpu_times(percpu=True)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(cores))
    busy = 0.0
    for core in usable:
        if core < len(cores):  # guests are counted as users already, waiting for a disk is no work
            times = cores[core]._asdict()
            busy += sum(seconds for name, seconds in times.items() if name not in ("idle", "iowait", "guest", "guest_nice"))
    own = os.times()
    return time.perf_counter(), busy, own.user + own.system + own.children_user + own.children_system


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)
