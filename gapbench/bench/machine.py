"""Where a timing was made, with which versions and source, and whether the machine is quiet enough to time on. Needs no torch."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

import gapbench
from gapbench.core.errors import GapbenchError
from gapbench.execution.devices import DeviceKind, find_gpus
from gapbench.execution.machine import usable_cores
from gapbench.store.provenance import cpu_name, git_state

BUSY = 0.3
"""Load of other programs, in cores, above which a timing means little."""
LOOK_SECONDS, LOOKS = 0.5, 4
"""A moment's work of some other program is waited out: of so many looks the quietest counts."""

_SPEED_ROOMS = ("core", "layers", "workloads", "optimizers", "probes", "engine", "cost", "bench/peers")
_SPEED_FILES = ("bench/ours.py", "bench/programs.py", "bench/task.py", "bench/timing.py")


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


def load_of_others() -> float:
    """Returns how many cores other programs keep busy now; call it while nothing of ours runs."""
    quietest = float("inf")
    for _ in range(LOOKS):
        quietest = min(quietest, psutil.cpu_percent(interval=LOOK_SECONDS) / 100.0 * (psutil.cpu_count(logical=True) or 1))
        if quietest <= BUSY:
            break
    return quietest


def refuse_load(load: float, *, rounds_done: bool) -> None:
    """Raises GapbenchError where other programs keep the machine too busy to time anything."""
    if load > BUSY:
        again = "what was timed is kept; " if rounds_done else ""
        raise GapbenchError(
            f"other programs keep {load:.1f} cores of this machine busy (more than {BUSY:g} makes timings worthless); {again}end them and "
            "run the same command again, or time all the same with --anyway, which marks the results"
        )


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)
