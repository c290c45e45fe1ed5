"""Where something was timed, and so where the timing may be used: the machine, and how it is shared out into slots."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import gapbench
from gapbench.store.provenance import cpu_name


@dataclass(frozen=True)
class Place:
    """A slot among its neighbours."""

    device_kind: str
    """"cpu" or "cuda"."""
    device_name: str
    """Product name of the device."""
    cores: int
    """That gapbench may use."""
    threads: int
    """Of one slot."""
    slots: int
    """That train at a time: they share the machine's memory bandwidth, so that each is slower than one alone."""
    devices: int = 1
    """That these slots are spread over: two slots of one GPU share it, one slot each of two GPUs share only the host."""

    def machine(self) -> Mapping[str, str | int]:
        """Returns what another machine, torch or gapbench would have different: none of its timings is used here."""
        return {
            "cpu": _cpu(),
            "cores": self.cores,
            "gpu": self.device_name if self.device_kind != "cpu" else "",
            "torch": _version("torch"),
            "gapbench": gapbench.__version__,
        }

    def machine_id(self) -> str:
        """Returns a short name of the machine, for files."""
        return hashlib.sha256(json.dumps(self.machine(), sort_keys=True).encode()).hexdigest()[:12]

    def sharing(self) -> str:
        """Returns how the machine is shared out, as part of a key."""
        shared = f"{self.device_kind} {self.slots}x{self.threads}"
        return shared if self.device_kind == "cpu" else f"{shared} on {self.devices}"


@functools.cache
def _cpu() -> str:
    return cpu_name()


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
