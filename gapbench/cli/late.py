"""`api` and `console`, imported when a command first uses them: `--help`, `--version` and most of completion need neither."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import gapbench

if TYPE_CHECKING:
    from gapbench import api, console

__all__ = ["api", "console"]


def _late(name: str) -> ModuleType:
    """Returns a module of this package whose code runs when one of its attributes is first asked for."""
    full_name = f"gapbench.{name}"
    if full_name in sys.modules:
        return sys.modules[full_name]
    spec = importlib.util.find_spec(full_name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{full_name} is not installed")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module
    setattr(gapbench, name, module)  # so that `from gapbench import api` finds the same module
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    api = _late("api")
    console = _late("console")
