"""What exists: data sets, models, regimes, optimizers, recipes, probes and suites, for `gapbench ls`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gapbench import catalog
from gapbench.api.place import HERE, Place, Where
from gapbench.catalog import show
from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.suite import shipped_suites

if TYPE_CHECKING:
    from gapbench.workloads.datasets import FileStatus


@dataclass(frozen=True)
class Listed:
    """One thing that exists."""

    name: str
    summary: str
    options: tuple[str, ...]
    """Options with their defaults and what they mean, as in a suite file; or presets of a recipe."""
    source: str


def kinds() -> list[str]:
    """Returns what can be listed."""
    return [*_REGISTRIES, "suites"]


def names(kind: str) -> list[str]:
    """Returns the names of one kind, without loading plugins: for completion."""
    return [*shipped_suites()] if kind == "suites" else [*_REGISTRIES[kind]()]


def listing(kind: str, plugins: Iterable[str | Path] = ()) -> list[Listed]:
    """Returns everything of one kind, plugins included.

    Raises:
        UnknownNameError: there is no such kind.
        GapbenchError: a plugin cannot be loaded.
    """
    if kind == "suites":
        return [Listed(name, _suite_summary(path), (), str(path)) for name, path in shipped_suites().items()]
    if kind not in _REGISTRIES:
        raise UnknownNameError(unknown_name("kind", kind, kinds()))
    load_plugins(plugins)
    return [Listed(name, entry.summary, tuple(_options(entry)), entry.source) for name, entry in _REGISTRIES[kind]().items()]


_REGISTRIES = {f"{kind}s": registry for kind, registry in catalog.REGISTRIES.items()}


def _options(entry: Any) -> list[str]:
    if isinstance(entry, catalog.RecipeEntry):
        return [f"preset {name}" for name in entry.presets]
    parameters = getattr(entry, "parameters", {})
    shown = {name: parameter for name, parameter in parameters.items() if name != "content"}  # nobody has to know of that one
    return [_option(name, parameter) for name, parameter in shown.items()]


def _option(name: str, parameter: catalog.Parameter) -> str:
    value = "..." if parameter.required else "left open" if parameter.default is None else show(parameter.default)
    what = [part for part in (parameter.help, "must be given" if parameter.required else "") if part]
    choices = f"one of {', '.join(show(choice) for choice in parameter.choices)}" if parameter.choices else ""
    return f"{name} = {value}" + (f"  # {'; '.join([*what, choices] if choices else what)}" if what or choices else "")


def _suite_summary(path: Path) -> str:
    return str(tomllib.loads(path.read_text(encoding="utf-8")).get("summary", ""))


def fetch_dataset(name: str, place: Place = HERE, **where: Unpack[Where]) -> list[FileStatus]:
    """Downloads what is missing of a data set's official files and returns the state of all of them.

    Args:
        name: of the data set.
        place: its folder of data sets, and plugins that define some.
        where: fields of the place, for this call.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: the download fails, a file is corrupt, or the folder cannot be written to.
    """
    from gapbench.workloads import datasets

    place = place.but(**where)
    load_plugins(place.plugins)
    datasets.fetch(name, place.data_context())
    return verify_dataset(name, place)


def verify_dataset(name: str, place: Place = HERE, **where: Unpack[Where]) -> list[FileStatus]:
    """Returns the state of a data set's official files, from checksums computed now; empty where it has no files.

    Args:
        name: of the data set.
        place: its folder of data sets, and plugins that define some.
        where: fields of the place, for this call.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: a file cannot be read.
    """
    from gapbench.workloads import datasets

    place = place.but(**where)
    load_plugins(place.plugins)
    return datasets.verify(name, place.but(offline=True).data_context())
