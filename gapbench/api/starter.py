"""A starter suite, small enough to run at once and commented enough to change, and the schema by which editors complete it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from string import Template

from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import StoreError
from gapbench.suite.json_schema import FILE_NAME, schema_text


def suite_schema(plugins: Iterable[str | Path] = ()) -> str:
    """Returns the JSON Schema of suite files as text; components of plugins are among the names that it knows.

    Raises:
        GapbenchError: a plugin cannot be loaded.
    """
    load_plugins(plugins)
    return schema_text()


def write_suite_schema(path: str | Path, plugins: Iterable[str | Path] = ()) -> Path:
    """Writes the JSON Schema of suite files to `path` and returns it.

    Raises:
        StoreError: the file exists already or cannot be written.
        GapbenchError: a plugin cannot be loaded.
    """
    return _write_new(Path(path), suite_schema(plugins), "choose another name, or remove it first")


def starter_suite(path: str | Path) -> Path:
    """Writes a starter suite to `path` (a .toml file) and returns it; beside it the schema that it names, where there is none yet.

    Raises:
        StoreError: the file exists already or cannot be written.
    """
    target = Path(path)
    if target.suffix != ".toml":
        raise StoreError(f"{target}: a suite is a .toml file; choose such a name")
    name = re.sub(r"[^a-z0-9._+-]+", "-", target.stem.lower()).lstrip("-._+") or "starter"
    template = Template(Path(__file__).with_name("starter.toml").read_text(encoding="utf-8"))
    _write_new(target, template.substitute(file=target.name, name=name, schema=FILE_NAME), "choose another name")
    if not (target.parent / FILE_NAME).exists():  # one that is there may know the user's own components
        write_suite_schema(target.parent / FILE_NAME)
    return target


def _write_new(target: Path, text: str, remedy: str) -> Path:
    """Writes a file that must not be there yet, and returns it."""
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise StoreError(f"{target}: exists already and is not written over; {remedy}") from None
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target
