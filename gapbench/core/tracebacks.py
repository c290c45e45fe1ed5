"""Where in a user's own code an error was raised."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_LIBRARIES = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def place_of(error: BaseException) -> str:
    """Returns ` (my.py:12)`, the innermost line that is neither gapbench's nor a library's; empty where there is none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _is_library(file: str) -> bool:
    path = Path(file).resolve()
    return file.startswith("<") or _PACKAGE in path.parents or not _LIBRARIES.isdisjoint(path.parents) or "site-packages" in path.parts
