"""Provenance: with what and where a run was trained. Needs no torch: versions come from the installed packages' metadata."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import gapbench
from gapbench.store.schema import utc_now

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")
"""Whose versions can change numbers."""


def describe_machine(folder: Path | None = None) -> dict[str, Any]:
    """Returns versions, platform and git state, the same for every run of one start.

    Args:
        folder: whose git state is recorded; default: the working directory.
    """
    return {
        "gapbench_version": gapbench.__version__,
        "python_version": platform.python_version(),
        **{f"{name.replace('-', '_')}_version": package_version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_name": cpu_name(),
        "cpu_count": os.cpu_count(),
        **git_state(folder or Path.cwd()),
    }


def describe_session(machine: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Returns one entry of env.json: the machine, the time, and what the caller knows (device, threads, stack, ...)."""
    return {"started_at": utc_now(), **machine, **more}


def git_state(folder: Path) -> dict[str, Any]:
    """Returns `git_commit` and `git_dirty` of the working tree that holds `folder`; both None where there is none, or no git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": None, "git_dirty": None}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}


@functools.cache
def cpu_name() -> str:
    """Returns the processor's name as people know it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def package_version(package: str) -> str | None:
    """Returns the version of an installed package, without importing it; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607  (the git of the user's path is the one that is meant)
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
