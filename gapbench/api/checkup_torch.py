"""The part of `gapbench doctor` that starts torch: versions, devices, precision, compilation, each in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gapbench
from gapbench.api.finding import Finding
from gapbench.execution.devices import Device, find_gpus

TORCH_SECONDS = 120.0
"""A first import of torch from a slow disk takes long; longer than this it hangs."""
COMPILE_SECONDS = 300.0
"""A first compilation takes half a minute on a slow core, on each device."""

_REINSTALL = "reinstall it: pip install --force-reinstall torch torchvision"
_NOT_NEEDED = "gapbench trains without it; long runs may then take half as long again"


def torch_findings() -> Iterator[Finding]:
    """Yields what torch can do here."""
    found = _ask("torch", TORCH_SECONDS)
    if isinstance(found, Finding):
        yield found
        return
    build = f"CUDA {found['cuda_build']}" if found["cuda_build"] else "CPU only"
    yield Finding("torch", "ok", f"{found['torch']} ({build}; CPU code path {found['cpu_capability']})")
    vision = found["torchvision"]
    if vision["error"]:
        remedy = "install the one that fits this torch: pip install --upgrade torch torchvision"
        yield Finding("torchvision", "bad", f"cannot be imported: {vision['error']}", remedy)
    else:
        yield Finding("torchvision", "ok", vision["version"])
    yield _cpu_bf16(bool(found["cpu_bf16"]))
    yield from _gpu_findings(found["devices"], find_gpus())
    yield from _compile_findings()


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
        if device["capture"]:
            yield Finding(f"CUDA graphs on {device['name']}", "note", f"cannot be captured: {device['capture']}", _NOT_NEEDED)
        else:
            yield Finding(f"CUDA graphs on {device['name']}", "ok", "capture works")
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


def _compile_findings() -> Iterator[Finding]:
    compiler = _compiler()
    found = _ask("torch.compile", COMPILE_SECONDS, "compile")
    if isinstance(found, Finding):
        yield Finding("torch.compile", "note", found.text, _NOT_NEEDED)
        return
    for device, result in found.items():
        if not result["error"]:
            yield Finding(f"torch.compile on {device}", "ok", f"works (the first time in {result['seconds']:.0f} s)")
            continue
        remedy = _NOT_NEEDED if compiler else f"install a C++ compiler ({_how_to_get_one()}); {_NOT_NEEDED}"
        yield Finding(f"torch.compile on {device}", "note", f"does not work: {result['error']}", remedy)
    yield Finding("C++ compiler", "ok", compiler) if compiler else Finding("C++ compiler", "note", "none found", _how_to_get_one())


def _ask(what: str, seconds: float, *arguments: str) -> dict[str, Any] | Finding:
    """Returns what `inspect_torch` prints, or the finding that it does not answer."""
    with tempfile.TemporaryDirectory(prefix="gapbench-doctor-") as scratch:
        environment = {**os.environ, "PYTHONPATH": _python_path(os.environ), "TORCHINDUCTOR_CACHE_DIR": scratch}
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


def _python_path(environment: Mapping[str, str]) -> str:
    return os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(Path(gapbench.__file__).parent.parent)]))


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
