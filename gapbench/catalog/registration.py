"""What plugins have added to the catalog, and from where: entries of one file come and go together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gapbench.catalog.entries import ComponentEntry, Entry
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import Registry

INSTALLED = "installed plugin "
"""The source of what comes from an entry point begins so."""


@dataclass(frozen=True, eq=False)
class Added:
    """An entry that a plugin has added."""

    registry: Registry[Any]
    name: str
    component: Callable[..., Any]
    source: str
    """Path of the plugin file, INSTALLED and a name, or empty: defined in a notebook or in a module of the user's own."""

    @property
    def target(self) -> str:
        """`module:object`, under which a worker process finds the component."""
        return f"{self.component.__module__}:{self.component.__qualname__}"


@dataclass(frozen=True)
class Load:
    """A plugin that is being imported."""

    source: str
    entries: list[Added] = field(default_factory=list)
    """What it has added so far."""


_added: dict[tuple[str, str], Added] = {}
"""By kind and name."""
_loads: list[Load] = []
"""Innermost last."""


def added_entry(kind: str, name: str) -> Added | None:
    """Returns what a plugin added under a name; None where the name is built in or unknown."""
    return _added.get((kind, name))


@contextmanager
def loading(source: str) -> Iterator[Load]:
    """While a plugin is imported: its entries are known as its own, and taken back where that fails.

    Raises:
        GapbenchError: two components share a place in their module, so that one would train in the other's name.
    """
    load = Load(source)
    _loads.append(load)
    try:
        yield load
        _check_targets(load.entries)
    except BaseException:
        for added in load.entries:
            forget(added)
        raise
    finally:
        _loads.pop()


def add_component(
    registry: Registry[Any], entry_type: type[ComponentEntry], component: Callable[..., Any], summary: str, **facts: Any
) -> None:
    """Adds an entry whose target is `component`. Raises GapbenchError where a worker process could not import it, or as `add`."""
    if "." in component.__qualname__:  # also "<locals>"
        name = facts["name"]
        raise GapbenchError(f'{registry.kind} "{name}" must be defined at the top level of its file, not inside {component.__qualname__}')
    target = f"{component.__module__}:{component.__qualname__}"
    add(registry, entry_type, component, target=target, summary=summary or first_line(component), **facts)


def add(registry: Registry[Any], entry_type: type[Entry], component: Callable[..., Any], **facts: Any) -> None:
    """Adds an entry; it replaces one of the same name from the same file, such as that of a notebook's cell that runs again.

    Raises:
        GapbenchError: the facts are wrong, or the name is taken.
    """
    load = _loads[-1] if _loads else Load("")
    try:
        entry = entry_type(**facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise GapbenchError(f'{registry.kind} "{facts["name"]}": {place}: {first["msg"]}') from error
    before = added_entry(registry.kind, entry.name)
    if before is not None and before not in load.entries and _file_of(before.component) == _file_of(component):
        forget(before)
    registry.add(entry.name, entry)
    added = Added(registry, entry.name, component, load.source)
    _added[registry.kind, entry.name] = added
    load.entries.append(added)


def forget(added: Added) -> None:
    """Takes an entry back, unless another one has its name by now."""
    if _added.get((added.registry.kind, added.name)) is added:
        added.registry.remove(added.name)
        del _added[added.registry.kind, added.name]


def first_line(component: Callable[..., Any]) -> str:
    """Returns the first line of a docstring."""
    return (component.__doc__ or "").strip().split("\n")[0]


def _check_targets(entries: Sequence[Added]) -> None:
    first: dict[str, Added] = {}
    for added in entries:
        other = first.setdefault(added.target, added)
        if other.component is not added.component:
            raise GapbenchError(
                f'{other.registry.kind} "{other.name}" and {added.registry.kind} "{added.name}" are both called '
                f"{added.component.__qualname__} in their file, where the second replaces the first; give them names of their own"
            )


def _file_of(component: Callable[..., Any]) -> str:
    """Returns the file that a component comes from, or its module where there is none, as in a notebook."""
    file = getattr(sys.modules.get(component.__module__), "__file__", None)
    return str(Path(file).resolve()) if file else component.__module__
