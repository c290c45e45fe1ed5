"""`gapbench doctor`: what this machine can do, and how to mend what it cannot."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gapbench
from gapbench import catalog
from gapbench.api.workloads import data_context
from gapbench.core.errors import GapbenchError
from gapbench.core.paths import cache_dir, data_dir_default
from gapbench.execution.devices import cpu, find_gpus
from gapbench.execution.machine import free_memory_mib, total_memory_mib, usable_cores

TORCH_SECONDS = 120.0
"""A first import of torch from a slow disk takes long; longer than this it hangs."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "bad"]
    """`note`: works, with something to know; `bad`: gapbench cannot train so."""
    text: str
    remedy: str = ""


def doctor(data_dir: str | Path | None = None) -> list[Finding]:
    """Returns what this machine can do. Looks at files, devices and a torch in a process of its own; changes nothing."""
    return [*_versions(), *_torch(), *_machine(), *_data(data_dir), *_folders()]


def _versions() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("gapbench", "ok", gapbench.__version__)
    yield Finding("Python", "ok", f"{version} at {sys.executable}")


def _torch() -> Iterator[Finding]:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gapbench.execution.inspect_torch"],
            capture_output=True,
            text=True,
            timeout=TORCH_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(_package_root())]))},
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("torch", "bad", f"does not answer ({type(error).__name__})", "reinstall it: pip install --force-reinstall torch")
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        yield Finding("torch", "bad", f"cannot be used: {last}", "reinstall it: pip install --force-reinstall torch torchvision")
        return
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    build = f"CUDA {found['cuda_build']}" if found["cuda_build"] else "CPU only"
    yield Finding("torch", "ok", f"{found['torch']} ({build}; CPU code path {found['cpu_capability']})")
    yield Finding(
        "bf16 on the CPU",
        "ok" if found["cpu_bf16"] else "note",
        "works" + ("" if _fast_bf16() else ", without instructions of its own: no faster than fp32")
        if found["cpu_bf16"]
        else "does not work",
        "" if found["cpu_bf16"] else 'use precision = "fp32", the default',
    )
    gpus = find_gpus()
    for device in found["devices"]:
        label = next((gpu.label for gpu in gpus if gpu.name == device["name"]), "")
        bf16 = "bf16 works" if device["bf16"] else "no bf16"
        remedy = (
            "" if device["works"] else "the driver and torch's CUDA do not fit together; update the driver, or train with --devices cpu"
        )
        yield Finding(
            device["name"], "ok" if device["works"] else "bad", f"{label}, {bf16}" if device["works"] else f"{label} fails", remedy
        )
    if not found["devices"]:
        if gpus:
            remedy = "update the NVIDIA driver, or install a torch that fits it (pytorch.org says which)"
            yield Finding("GPU", "bad", f"the driver shows {len(gpus)}, torch cannot use any", remedy)
        else:
            yield Finding("GPU", "note", "none that torch can use; runs train on the CPU")


def _machine() -> Iterator[Finding]:
    cores = usable_cores()
    held = f" of {os.cpu_count()} (affinity or quota)" if cores != os.cpu_count() else ""
    yield Finding("CPU", "ok", f"{cpu().label}, {cores} cores{held}: as many slots with one thread each")
    free, total = free_memory_mib(), total_memory_mib()
    low = free < 2048
    remedy = "end other programs: a worker alone takes about 0.5 GiB" if low else ""
    yield Finding("memory", "note" if low else "ok", f"{free / 1024:.1f} GiB free of {total / 1024:.1f} GiB", remedy)


def _data(data_dir: str | Path | None) -> Iterator[Finding]:
    from gapbench.workloads import datasets

    context = data_context(data_dir, offline=True)
    yield Finding(
        "data directory",
        "ok",
        f"{context.root}{'' if data_dir or data_dir_default() else ' (downloads; --data-dir or GAPBENCH_DATA for another)'}",
    )
    for name in catalog.datasets():
        if any(parameter.default is None for parameter in catalog.datasets()[name].parameters.values()):
            continue  # needs the user's own files
        try:
            files = datasets.verify(name, context)
        except GapbenchError as error:
            yield Finding(f"data: {name}", "bad", str(error))
            continue
        missing = [file.path.name for file in files if file.status == "missing"]
        corrupt = [file.path.name for file in files if file.status == "corrupt"]
        if corrupt:
            yield Finding(f"data: {name}", "bad", f"corrupt: {', '.join(corrupt)}", f"remove them, then gapbench data fetch {name}")
        elif missing:
            yield Finding(f"data: {name}", "note", "not here", f"gapbench data fetch {name}")
        else:
            yield Finding(f"data: {name}", "ok", "there, checksums right" if files else "comes with gapbench's libraries")


def _folders() -> Iterator[Finding]:
    cache = cache_dir()
    yield _writable("cache", cache, "name another with GAPBENCH_CACHE")
    yield _writable("results", Path("results").absolute(), "run somewhere else, or with --results DIR")
    place = next(folder for folder in [cache, *cache.parents] if folder.exists())
    free = shutil.disk_usage(place).free / (1 << 30)
    yield Finding(
        "disk", "ok" if free > 2 else "note", f"{free:.1f} GiB free for the cache", "" if free > 2 else "gapbench clean --cache frees some"
    )


def _writable(name: str, folder: Path, remedy: str) -> Finding:
    place = next((parent for parent in [folder, *folder.parents] if parent.exists()), folder)
    if os.access(place, os.W_OK) and place.is_dir():
        return Finding(name, "ok", f"{folder}{'' if folder.exists() else ' (made when needed)'}")
    return Finding(name, "bad", f"{folder} cannot be written to", remedy)


def _fast_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine() in ("arm64", "aarch64")
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _package_root() -> Path:
    return Path(gapbench.__file__).parent.parent
