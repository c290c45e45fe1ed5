"""Walking and changing the nested data of a suite file."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from gapbench.suite.toml import KeyPath


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key path of parsed TOML, tables and lists before what they hold."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def at(data: Any, path: KeyPath) -> Any:
    """The value at a key path."""
    for key in path:
        data = data[key]
    return data


def changed(data: dict[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    """A copy with another value at a key path."""
    new = copy.deepcopy(data)
    at(new, path[:-1])[path[-1]] = value
    return new


def shown(path: KeyPath) -> str:
    """A key path as the id of a test."""
    return ".".join(str(part) for part in path)
