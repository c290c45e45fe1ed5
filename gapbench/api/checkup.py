"""`gapbench doctor`: what this machine can do, and how to mend what it cannot."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gapbench
from gapbench import catalog
from gapbench.api.checkup_torch import torch_findings
from gapbench.api.finding import Finding
from gapbench.api.workloads import data_context
from gapbench.core.errors import GapbenchError
from gapbench.core.machine import free_memory_mib, total_memory_mib, usable_cores
from gapbench.core.paths import cache_dir, data_dir_default
from gapbench.execution.devices import cpu, find_gpus

__all__ = ["Finding", "doctor"]

WORKER_GIB = 0.5
"""What a worker takes before it has loaded anything."""
LITTLE_GIB, NO_GIB = 2.0, 0.1
"""Free space that may not last, and too little to write anything."""


def doctor(data_dir: str | Path | None = None, *, fast: bool = False, results: str | Path = "results") -> list[Finding]:
    """Returns what this machine can do. Looks at files, devices and a torch in processes of its own; leaves everything as it is.

    Args:
        data_dir: where data sets are looked for; default: GAPBENCH_DATA, else downloads in the cache.
        fast: leaves out what has to start torch: versions, devices as torch sees them, precision, compilation.
        results: parent of results directories.
    """
    return [*_versions(), *(_devices_only() if fast else _torch()), *_machine(), *_data(data_dir), *_folders(Path(results))]


def _versions() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("gapbench", "ok", gapbench.__version__)
    yield Finding("Python", "ok", f"{version} at {sys.executable}")


def _torch() -> Iterator[Finding]:
    yield from torch_findings()


def _devices_only() -> Iterator[Finding]:
    """Yields the GPUs that the driver shows, without asking torch."""
    for gpu in find_gpus():
        memory = f", {gpu.memory_mib / 1024:.1f} GiB" if gpu.memory_mib else ""
        yield Finding(gpu.name, "ok", f"{gpu.label}{memory}; whether torch can use it is not tried with --fast")
    if not find_gpus():
        yield Finding("GPU", "note", "none; runs train on the CPU")


def _machine() -> Iterator[Finding]:
    cores = usable_cores()
    held = f" of {os.cpu_count()} (affinity or quota)" if cores != os.cpu_count() else ""
    slots = "1 slot" if cores == 1 else f"{cores} slots"
    yield Finding("CPU", "ok", f"{cpu().label}, {cores} core{'s' if cores > 1 else ''}{held}: {slots} with one thread each")
    free, total = free_memory_mib() / 1024, total_memory_mib() / 1024
    low = free < max(2.0, cores * WORKER_GIB)
    remedy = f"end other programs, or take fewer --slots: a worker alone takes about {WORKER_GIB:g} GiB" if low else ""
    yield Finding("memory", "note" if low else "ok", f"{free:.1f} GiB free of {total:.1f} GiB", remedy)


def _data(data_dir: str | Path | None) -> Iterator[Finding]:
    from gapbench.workloads import datasets

    context = data_context(data_dir, offline=True)
    asked = Path(data_dir).expanduser() if data_dir else None
    named = "--data-dir" if asked and asked != data_dir_default() else "GAPBENCH_DATA" if data_dir_default() else ""
    if not named:
        yield Finding("data directory", "ok", f"{context.root} (downloads; --data-dir or GAPBENCH_DATA for another)")
    elif context.root.is_dir():
        yield Finding("data directory", "ok", f"{context.root} ({named})")
    else:
        remedy = f"gapbench data fetch makes it; or name one that is there, or leave {named} out"
        yield Finding("data directory", "note", f"{named} names {context.root}, and there is no such folder", remedy)
    for name in catalog.datasets():
        if any(parameter.required for parameter in catalog.datasets()[name].parameters.values()):
            continue  # needs the user's own files
        try:
            files = datasets.verify(name, context)
        except GapbenchError as error:
            yield Finding(f"data: {name}", "bad", str(error))
            continue
        missing = [file.path for file in files if file.status == "missing"]
        corrupt = [file.path for file in files if file.status == "corrupt"]
        if corrupt:
            text = f"corrupt: {', '.join(str(path) for path in corrupt)}"
            yield Finding(f"data: {name}", "bad", text, f"remove {'it' if len(corrupt) == 1 else 'them'}, then gapbench data fetch {name}")
        elif missing and len(missing) < len(files):
            text = f"incomplete: {', '.join(str(path) for path in missing)} missing"
            yield Finding(f"data: {name}", "note", text, f"gapbench data fetch {name}")
        elif missing:
            yield Finding(f"data: {name}", "note", f"not in {missing[0].parent}", f"gapbench data fetch {name}")
        elif files:
            yield Finding(f"data: {name}", "ok", f"{files[0].path.parent}, checksums right")
        else:
            yield Finding(f"data: {name}", "ok", "comes with gapbench's libraries")


def _folders(results: Path) -> Iterator[Finding]:
    places = {"cache": (cache_dir(), "name another with GAPBENCH_CACHE"), "results": (results, "run somewhere else, or with --results DIR")}
    for name, (folder, remedy) in places.items():
        folder = folder.absolute()
        existing = next((parent for parent in [folder, *folder.parents] if parent.exists()), folder)
        trouble = _write_error(existing)
        if trouble:
            yield Finding(name, "bad", f"{folder} cannot be written to: {trouble}", remedy)
            continue
        free = shutil.disk_usage(existing).free / (1 << 30)
        text = f"{folder}{'' if folder.exists() else ' (made when needed)'}, {free:.1f} GiB free"
        if free < LITTLE_GIB:
            mend = "gapbench clean --cache frees some" if name == "cache" else f"gapbench clean frees some; or {remedy}"
            yield Finding(name, "bad" if free < NO_GIB else "note", text, mend)
        else:
            yield Finding(name, "ok", text)


def _write_error(folder: Path) -> str:
    """Returns why nothing can be written into a folder; empty where it can. It is tried: permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".gapbench-") as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
