"""Provenance: with what and where a run was trained. Needs no torch: versions come from the installed packages' metadata."""

from __future__ import annotations

import functools
import hashlib
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


PACKAGE = Path(gapbench.__file__).resolve().parent


def describe_machine() -> dict[str, Any]:
    """Returns versions, platform and the git state of gapbench's own code, the same for every run of one start."""
    return {
        "gapbench_version": code_version(),
        "python_version": platform.python_version(),
        **{f"{name.replace('-', '_')}_version": package_version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_name": cpu_name(),
        "cpu_count": os.cpu_count(),
        **git_state(PACKAGE),
    }


def code_version(folder: Path = PACKAGE) -> str:
    """Returns the version with a hash of the code, "0.1.0+0f1e2d3c4b5a": equal for equal code, wherever it was built or checked out."""
    return f"{gapbench.__version__}+{_code_hash(folder)}"


@functools.cache
def _code_hash(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml") and "_suites" not in path.parts):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def describe_session(machine: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Returns one entry of env.json: the machine, the time, and what the caller knows (device, threads, stack, ...)."""
    return {"started_at": utc_now(), **machine, **more}


def git_state(folder: Path) -> dict[str, Any]:
    """Returns `git_commit` and `git_dirty` of a package's code; both None where no git tracks it."""
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    commit = None if tracked is None else _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": None, "git_dirty": None}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
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
