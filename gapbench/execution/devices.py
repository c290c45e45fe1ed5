"""Devices that runs can be placed on, found without importing torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

import pynvml

from gapbench.core.errors import DeviceError
from gapbench.core.registry import did_you_mean
from gapbench.store.provenance import cpu_name

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Device:
    """One device."""

    name: str
    """As people call it: `cpu`, `cuda:1`. The number counts among the visible ones, as in torch."""
    kind: DeviceKind
    label: str
    """Product name."""
    visible: str = ""
    """What a worker's CUDA_VISIBLE_DEVICES is set to, so that it sees this device alone."""
    memory_mib: float | None = None


def cpu() -> Device:
    """Returns the CPU."""
    return Device("cpu", "cpu", cpu_name())


def choose_devices(wanted: str | None) -> tuple[Device, ...]:
    """Returns the devices to train on.

    Args:
        wanted: such as "cuda:0,cuda:1", "cuda" (all) or "cpu"; None: all GPUs where there are any, else the CPU.

    Raises:
        DeviceError: a device does not exist, or the installed torch cannot use it.
    """
    if wanted is None:
        return find_gpus() or (cpu(),)
    found: list[Device] = []
    for name in dict.fromkeys(part.strip().lower() for part in wanted.split(",")):
        found.extend(device for device in _named(name) if device not in found)
    if len({device.kind for device in found}) > 1:
        raise DeviceError(
            f"--devices {wanted}: runs train either on GPUs or on the CPU, for their numbers differ in the last digits; choose one kind"
        )
    return tuple(found)


def find_gpus() -> tuple[Device, ...]:
    """Returns the GPUs that torch can use here: those the driver knows, as far as CUDA_VISIBLE_DEVICES shows them."""
    return _driver_gpus() if torch_cuda_version() else ()


def torch_cuda_version() -> str | None:
    """Returns the CUDA version that the installed torch is built for, or None for a build without CUDA. Reads its version file only."""
    spec = util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        text = (Path(next(iter(spec.submodule_search_locations))) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else None


def _named(name: str) -> tuple[Device, ...]:
    if name == "cpu":
        return (cpu(),)
    gpus = find_gpus()
    if found := tuple(device for device in gpus if name in (device.name, "cuda", "gpu")):
        return found
    if re.fullmatch(r"cuda(:\d+)?|gpu", name) and not gpus:
        raise DeviceError(f'device "{name}" does not exist: {_why_no_gpu()}; use --devices cpu, or ask `gapbench doctor`')
    known = [*(device.name for device in gpus), "cpu"]
    raise DeviceError(f'device "{name}" does not exist{did_you_mean(name, known)}; this machine has: {", ".join(known)}')


def _why_no_gpu() -> str:
    return "the installed torch is built without CUDA" if _driver_gpus() else "no NVIDIA GPU is visible here"


def _driver_gpus() -> tuple[Device, ...]:
    try:
        pynvml.nvmlInit()
        try:
            return _visible(_driver_list())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ()


def _driver_list() -> list[tuple[str, str, float]]:
    """Returns (UUID, product name, memory in MiB) of every GPU, in the order of the PCI bus."""
    gpus = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / (1 << 20)
        gpus.append((pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), memory))
    return gpus


def _visible(gpus: list[tuple[str, str, float]]) -> tuple[Device, ...]:
    """Applies CUDA_VISIBLE_DEVICES as CUDA does: numbers or beginnings of UUIDs, up to the first that does not exist."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = gpus if shown is None else []
    for entry in (part.strip() for part in (shown or "").split(",")):
        if entry.isdecimal() and int(entry) < len(gpus):
            chosen.append(gpus[int(entry)])
        elif entry.startswith("MIG-"):
            chosen.append((entry, "MIG device", 0.0))  # a part of a GPU: the driver's list has only whole ones
        elif entry.startswith("GPU-") and (match := [gpu for gpu in gpus if gpu[0].startswith(entry)]):
            chosen.append(match[0])
        else:
            break
    return tuple(Device(f"cuda:{number}", "cuda", label, uuid, memory or None) for number, (uuid, label, memory) in enumerate(chosen))
