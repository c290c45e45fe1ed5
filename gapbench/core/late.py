"""Packages whose parts are imported when a name of theirs is first used, so that a short command imports only what it needs."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def late_imports(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """Returns a module's `__getattr__` (PEP 562) and `__all__` for the names that its file imports under `if TYPE_CHECKING:`.

    They are written there once, as `name as name`, where editors and type checkers read them as exported. No part may be named like one
    of its names: importing it would put the module in the name's place.

    Args:
        package: its `__name__`.
        file: its `__file__`.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module or "" for node in imports for alias in node.names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find, list(homes)
