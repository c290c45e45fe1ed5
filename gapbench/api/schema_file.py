"""`gapbench schema`: the JSON Schema of suite files, for editors that complete TOML."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import StoreError


def suite_schema(plugins: Iterable[str | Path] = ()) -> str:
    """Returns the JSON Schema of suite files as text; components of plugins are among the names that it knows.

    Raises:
        GapbenchError: a plugin cannot be loaded.
    """
    from gapbench.suite.json_schema import schema_text

    load_plugins(plugins)
    return schema_text()


def write_suite_schema(path: str | Path, plugins: Iterable[str | Path] = ()) -> Path:
    """Writes the JSON Schema of suite files to `path` and returns it.

    Raises:
        StoreError: the file exists already or cannot be written.
        GapbenchError: a plugin cannot be loaded.
    """
    target = Path(path)
    text = suite_schema(plugins)
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise StoreError(f"{target}: exists already and is not written over; choose another name, or remove it first") from None
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target
