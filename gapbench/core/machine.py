"""What this machine has to give: cores, memory, processes, and where gapbench keeps its cache and looks for data. Needs no torch."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import psutil

MIB = 1 << 20

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 of control groups writes a number above this for "no limit"."""


def usable_cores() -> int:
    """Returns how many cores this process may use: its affinity, and the quota of its control group where there is one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, math.ceil(quota)) if quota is not None else cores)


def total_memory_mib() -> float:
    """Returns the machine's memory, or the control group's limit where that is less."""
    return _total_memory_mib(tuple(_control_groups()))


@functools.cache
def _total_memory_mib(folders: tuple[Path, ...]) -> float:
    # A plan asks for every job; a process keeps its limits.
    limits = [limit for limit, _ in _memory_limits(folders)]
    return float(min([psutil.virtual_memory().total, *limits])) / MIB


def free_memory_mib() -> float:
    """Returns how much memory more could be used now without swapping or being killed."""
    left = [limit - used for limit, used in _memory_limits(_control_groups())]
    return max(0.0, float(min([psutil.virtual_memory().available, *left])) / MIB)


def resident_mib(pid: int) -> float:
    """Returns the memory that a process holds; 0 where it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / MIB
    except psutil.Error:
        return 0.0


def _control_groups() -> Iterator[Path]:
    """Yields this process's control group folders, innermost first: every one of them may limit it."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, name = line.split(":", 2)
        if number == "0":
            base = _CGROUP_ROOT
        elif "memory" in controllers.split(","):
            base = _CGROUP_ROOT / "memory"
        else:
            continue
        folder = base / name.lstrip("/")
        while folder != base and base in folder.parents:
            yield folder
            folder = folder.parent
        yield base


def _memory_limits(folders: Iterable[Path]) -> list[tuple[int, int]]:
    """Returns (limit, used) in bytes of every control group that limits memory."""
    limits = []
    for folder in folders:
        for limit_name, used_name, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None and limit < _UNLIMITED:
                limits.append((limit, max(0, used - _statistic(folder / "memory.stat", cache_key))))
    return limits


def _cpu_quota() -> float | None:
    quotas = []
    for folder in _control_groups():
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            if quota != "max":
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return min(quotas, default=None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no number: no limit
        return None


def _statistic(path: Path, key: str) -> int:
    """Returns one line of memory.stat: page cache that the kernel can take back does not count as used."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def python_environment() -> dict[str, str]:
    """Returns the environment of a Python process of ours: it imports the same gapbench as this one, also where it is not installed."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))}


# Where gapbench keeps what it can make again (the cache) and looks for data sets.


def cache_dir() -> Path:
    """Returns the folder of decoded data sets, calibration and compiled programs; it may not exist yet.

    `GAPBENCH_CACHE`, else `gapbench` in the platform's cache folder.
    """
    named = os.environ.get("GAPBENCH_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gapbench" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gapbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gapbench"


def write_note(note: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON into the cache, whole or not at all. Raises OSError where the cache cannot be written to."""
    temporary = note.with_name(f".{note.name}.{os.getpid()}.tmp")
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(values), encoding="utf-8", errors="surrogateescape")
    temporary.replace(note)


def data_dir_default() -> Path | None:
    """Returns the folder of data sets that `GAPBENCH_DATA` names, or None: then data sets are downloaded into the cache."""
    named = os.environ.get("GAPBENCH_DATA")
    return Path(named).expanduser() if named else None


def shown(path: Path) -> str:
    """Returns a path as it is seen from where the user stands."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Returns, by path, its shortest end that no other of these has: `a.npz`, or `one/a.npz` beside `two/a.npz`. Paths have slashes."""
    parts = {path: path.strip("/").split("/") for path in paths}
    names = {}
    for path, own in parts.items():
        others = [other for name, other in parts.items() if name != path]
        lengths = (length for length in range(1, len(own)) if all(other[-length:] != own[-length:] for other in others))
        names[path] = "/".join(own[-next(lengths, len(own)) :])
    return names


def is_absolute(path: str) -> bool:
    """Whether a path is absolute on any system."""
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def without_folders(text: str) -> str:
    """Returns a text whose absolute paths are names alone: `/home/me/data/a.npz` is `a.npz`."""
    return re.sub(r"""(?<![\w.:/~-])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,'"()]+[/\\])+([^\s/\\:;,'"()]*)""", r"\1", text)
