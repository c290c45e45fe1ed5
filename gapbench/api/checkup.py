"""`gapbench doctor`: what this machine can do, and how to mend what it cannot."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import gapbench
from gapbench import catalog
from gapbench.api.place import HERE, Place, Where
from gapbench.core.errors import GapbenchError
from gapbench.core.machine import cache_dir, data_dir_default, free_memory_mib, python_environment, total_memory_mib, usable_cores
from gapbench.execution.devices import Device, cpu, find_gpus

if TYPE_CHECKING:
    from gapbench.workloads.datasets import FileStatus


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "bad"]
    """`note`: works, with something to know; `bad`: gapbench cannot train so."""
    text: str
    remedy: str = ""
    """How to mend it."""


TORCH_SECONDS = 120.0
"""A first import of torch from a slow disk takes long; longer than this it hangs."""
COMPILE_SECONDS = 300.0
"""A first compilation takes half a minute on a slow core, on each device."""

WORKER_GIB = 0.5
"""What a worker takes before it has loaded anything."""
LITTLE_GIB, NO_GIB = 2.0, 0.1
"""Free space that may not last, and too little to write anything."""

_REINSTALL = "reinstall it: pip install --force-reinstall torch torchvision"
_NOT_NEEDED = "gapbench trains without it; long runs may then take half as long again"


def doctor(place: Place = HERE, *, fast: bool = False, **where: Unpack[Where]) -> list[Finding]:
    """Returns what this machine can do. Looks at files, devices and a torch in processes of its own; leaves everything as it is.

    Args:
        place: where data sets and results are looked for.
        fast: leaves out what has to start torch: versions, devices as torch sees them, precision, compilation.
        where: fields of the place, for this call.
    """
    place, gpus = place.but(**where), find_gpus()
    torch = _driver_findings(gpus) if fast else _torch(gpus)
    return [*_versions(), *torch, *_machine(), *_data(place), *_folders(Path(place.results))]


def _versions() -> Iterator[Finding]:
    yield Finding("gapbench", "ok", gapbench.__version__)
    yield Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _driver_findings(gpus: tuple[Device, ...]) -> Iterator[Finding]:
    """Yields the GPUs that the driver shows, without asking torch."""
    for gpu in gpus:
        memory = f", {gpu.memory_mib / 1024:.1f} GiB" if gpu.memory_mib else ""
        yield Finding(gpu.name, "ok", f"{gpu.label}{memory}; whether torch can use it is not tried with --fast")
    if not gpus:
        yield Finding("GPU", "note", "none; runs train on the CPU")


def _torch(gpus: tuple[Device, ...]) -> Iterable[Finding]:
    """Returns what torch can do here, which processes of its own try out: a broken one may take its process with it."""
    found = ask("torch", TORCH_SECONDS)
    if isinstance(found, Finding):
        return [found]
    return torch_findings(found, ask("torch.compile", COMPILE_SECONDS, "compile"), gpus, _compiler())


def torch_findings(
    found: Mapping[str, Any], compiled: Mapping[str, Any] | Finding, gpus: tuple[Device, ...], compiler: str
) -> Iterator[Finding]:
    """Yields what torch can do.

    Args:
        found: what `inspect_torch` found.
        compiled: what it found about compiling, by device; a finding where it did not answer.
        gpus: those that the driver shows.
        compiler: path of the C++ compiler; empty: there is none.
    """
    build = f"CUDA {found['cuda_build']}" if found["cuda_build"] else "CPU only"
    yield Finding("torch", "ok", f"{found['torch']} ({build}; CPU code path {found['cpu_capability']})")
    vision = found["torchvision"]
    remedy = "install the one that fits this torch: pip install --upgrade torch torchvision"
    trouble = f"cannot be imported: {vision['error']}" if vision["error"] else ""
    yield _tried("torchvision", vision["version"], trouble, remedy, "bad")
    yield _cpu_bf16(bool(found["cpu_bf16"]))
    yield from _gpu_findings(found["devices"], gpus)
    yield from _compile_findings(compiled, compiler)


def _gpu_findings(devices: list[dict[str, Any]], gpus: tuple[Device, ...]) -> Iterator[Finding]:
    for device in devices:
        label = next((gpu.label for gpu in gpus if gpu.name == device["name"]), "a GPU")
        if not device["works"]:
            remedy = "the driver and torch's CUDA do not fit together; update the driver, or train with --devices cpu"
            yield Finding(device["name"], "bad", f"{label} fails", remedy)
            continue
        memory = f"{device['total_mib'] / 1024:.1f} GiB, {device['free_mib'] / 1024:.1f} GiB free"
        bf16 = "bf16 works" if device["bf16"] else "no bf16"
        used = device["free_mib"] < 0.5 * device["total_mib"]
        yield Finding(
            device["name"],
            "note" if used else "ok",
            f"{label}, {memory}, compute capability {device['capability']}, {bf16}",
            "another program uses it: runs may be out of memory, and times mean little" if used else "",
        )
        trouble = f"cannot be captured: {device['capture']}" if device["capture"] else ""
        yield _tried(f"CUDA graphs on {device['name']}", "capture works", trouble, _NOT_NEEDED)
    if not devices and gpus:
        remedy = "update the NVIDIA driver, or install a torch that fits it (pytorch.org says which)"
        yield Finding("GPU", "bad", f"the driver shows {len(gpus)}, torch cannot use any", remedy)
    elif not devices:
        yield Finding("GPU", "note", "none that torch can use; runs train on the CPU")


def _cpu_bf16(works: bool) -> Finding:
    if not works:
        return Finding("bf16 on the CPU", "note", "does not work", 'use precision = "fp32", the default')
    fast = _fast_bf16()
    text = f"works, with instructions of its own ({', '.join(fast)})" if fast else "works, without instructions of its own"
    return Finding("bf16 on the CPU", "ok" if fast else "note", text, "" if fast else 'precision = "fp32", the default, is as fast')


def _compile_findings(found: Mapping[str, Any] | Finding, compiler: str) -> Iterator[Finding]:
    if isinstance(found, Finding):
        yield Finding("torch.compile", "note", found.text, _NOT_NEEDED)
        return
    remedy = _NOT_NEEDED if compiler else f"install a C++ compiler ({_how_to_get_one()}); {_NOT_NEEDED}"
    for device, result in found.items():
        trouble = f"does not work: {result['error']}" if result["error"] else ""
        yield _tried(f"torch.compile on {device}", f"works (the first time in {result['seconds']:.0f} s)", trouble, remedy)
    yield _tried("C++ compiler", compiler, "" if compiler else "none found", _how_to_get_one())


def _tried(name: str, works: str, trouble: str, remedy: str, state: Literal["note", "bad"] = "note") -> Finding:
    """Returns that something works or, where there is trouble with it, that and its remedy."""
    return Finding(name, state, trouble, remedy) if trouble else Finding(name, "ok", works)


def ask(what: str, seconds: float, *arguments: str) -> dict[str, Any] | Finding:
    """Returns what `inspect_torch` prints, or the finding that it does not answer."""
    with tempfile.TemporaryDirectory(prefix="gapbench-doctor-") as scratch:
        environment = {**python_environment(), "TORCHINDUCTOR_CACHE_DIR": scratch}
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "gapbench.execution.inspect_torch", *arguments],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return Finding(what, "bad", f"does not answer within {seconds:.0f} s", _REINSTALL)
        except OSError as error:
            return Finding(what, "bad", f"cannot be started: {error.strerror}", _REINSTALL)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Finding(what, "bad", f"cannot be used: {last}", _REINSTALL)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _fast_bf16() -> list[str]:
    """Returns the instruction sets for bf16 that this CPU has."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ["NEON"] if platform.machine() in ("arm64", "aarch64") and sys.platform == "darwin" else []
    known = {"avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX", " bf16 ": "BF16"}
    return [name for flag, name in known.items() if flag in flags]


def _compiler() -> str:
    """Returns the path of the C++ compiler that torch.compile would use, or an empty text."""
    names = [os.environ.get("CXX", ""), *(["cl"] if sys.platform == "win32" else []), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), "")


def _how_to_get_one() -> str:
    return {"darwin": "xcode-select --install", "win32": "the Build Tools for Visual Studio"}.get(sys.platform, "such as apt install g++")


def _machine() -> Iterator[Finding]:
    cores = usable_cores()
    held = f" of {os.cpu_count()} (affinity or quota)" if cores != os.cpu_count() else ""
    slots = "1 slot" if cores == 1 else f"{cores} slots"
    yield Finding("CPU", "ok", f"{cpu().label}, {cores} core{'s' if cores > 1 else ''}{held}: {slots} with one thread each")
    free, total = free_memory_mib() / 1024, total_memory_mib() / 1024
    low = free < max(2.0, cores * WORKER_GIB)
    remedy = f"end other programs, or take fewer --slots: a worker alone takes about {WORKER_GIB:g} GiB" if low else ""
    yield Finding("memory", "note" if low else "ok", f"{free:.1f} GiB free of {total:.1f} GiB", remedy)


def _data(place: Place) -> Iterator[Finding]:
    from gapbench.workloads import datasets

    context = place.but(offline=True).data_context()
    named = "" if place.data_folder is None else "GAPBENCH_DATA" if place.data_folder == data_dir_default() else "--data-dir"
    if not named:
        yield Finding("data directory", "ok", f"{context.root} (downloads; --data-dir or GAPBENCH_DATA for another)")
    elif context.root.is_dir():
        yield Finding("data directory", "ok", f"{context.root} ({named})")
    else:
        remedy = f"gapbench data fetch makes it; or name one that is there, or leave {named} out"
        yield Finding("data directory", "note", f"{named} names {context.root}, and there is no such folder", remedy)
    for name, entry in catalog.datasets().items():
        if any(parameter.required for parameter in entry.parameters.values()):
            continue  # needs the user's own files
        try:
            yield _files_finding(name, datasets.verify(name, context))
        except GapbenchError as error:
            yield Finding(f"data: {name}", "bad", str(error))


def _files_finding(name: str, files: Sequence[FileStatus]) -> Finding:
    title, fetch = f"data: {name}", f"gapbench data fetch {name}"
    missing = [file.path for file in files if file.status == "missing"]
    corrupt = [file.path for file in files if file.status == "corrupt"]
    if corrupt:
        text = f"corrupt: {', '.join(str(path) for path in corrupt)}"
        return Finding(title, "bad", text, f"remove {'it' if len(corrupt) == 1 else 'them'}, then {fetch}")
    if missing and len(missing) < len(files):
        return Finding(title, "note", f"incomplete: {', '.join(str(path) for path in missing)} missing", fetch)
    if missing:
        return Finding(title, "note", f"not in {missing[0].parent}", fetch)
    return Finding(title, "ok", f"{files[0].path.parent}, checksums right" if files else "comes with gapbench's libraries")


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
