"""Packages whose parts are imported when a name of theirs is first used, so that a short command imports only what it needs."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def late_imports(package: str, file: str) -> Callable[[str], Any]:
    """Returns a module's `__getattr__` (PEP 562) for the names that its file imports under `if TYPE_CHECKING:`.

    They are written there once, where editors and type checkers read them. No part may be named like one of its names: importing it
    would put the module in the name's place.

    Args:
        package: its `__name__`.
        file: its `__file__`.
    """
    homes: dict[str, str] = {}

    def find(name: str) -> Any:
        if not homes:
            homes.update(_homes(Path(file)))
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find


def _homes(file: Path) -> dict[str, str]:
    """Returns the module of every name that is imported under `if TYPE_CHECKING:`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.name: node.module for node in imports for alias in node.names if node.module}
