"""`api` and `console`, imported when a command first uses them: `--help`, `--version` and most of completion need neither."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapbench import api, console

__all__ = ["api", "console"]


class _Late:
    """Stands for a module and imports it when one of its attributes is first asked for.

    The standard library's LazyLoader is no help: a package that it stands for imports its parts twice.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if not TYPE_CHECKING:
    api = _Late("gapbench.api")
    console = _Late("gapbench.console")
