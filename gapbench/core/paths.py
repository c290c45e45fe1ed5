"""Where gapbench keeps what it can make again (the cache) and looks for data sets."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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


def data_dir_default() -> Path | None:
    """Returns the folder of data sets that `GAPBENCH_DATA` names, or None: then data sets are downloaded into the cache."""
    named = os.environ.get("GAPBENCH_DATA")
    return Path(named).expanduser() if named else None


def shown(path: Path) -> str:
    """Returns a path as it is seen from where the user stands."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
