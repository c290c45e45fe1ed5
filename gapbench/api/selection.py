"""A suite and what is asked of it: the whole decides how runs are stacked and placed, the selection which of them train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapbench import catalog
from gapbench.core.registry import Registry
from gapbench.suite import Suite, load_suite
from gapbench.suite.runspec import RunSpec


@dataclass(frozen=True)
class Selection:
    """A loaded suite."""

    whole: Suite
    chosen: Suite
    """The same without the runs that `only` leaves out."""
    plugins: tuple[str, ...]
    """Absolute paths."""

    @property
    def specs(self) -> dict[str, RunSpec]:
        """Every run of the whole suite by id, in order."""
        return specs_by_id(self.whole)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Ids of the selected runs, each once."""
        return tuple(specs_by_id(self.chosen))


def select(
    suite: str | Path, *, settings: Mapping[str, str] | None = None, only: str | None = None, plugins: Iterable[str | Path] = ()
) -> Selection:
    """Loads a suite.

    Raises:
        GapbenchError: the suite or a plugin is wrong.
    """
    files = tuple(str(Path(plugin).expanduser().absolute()) for plugin in plugins)
    whole = load_suite(suite, settings=settings, plugins=files)
    chosen = load_suite(suite, settings=settings, only=only, plugins=files) if only else whole
    return Selection(whole, chosen, files)


def specs_by_id(suite: Suite) -> dict[str, RunSpec]:
    """Returns the specs of a suite, each id once, in order."""
    specs: dict[str, RunSpec] = {}
    for planned in suite.runs:
        specs.setdefault(planned.run_id, planned.spec)
    return specs


def used_components(specs: Iterable[RunSpec]) -> list[tuple[Registry[Any], str]]:
    """Returns registry and name of every component that training these runs imports, each once."""
    used: dict[tuple[str, str], tuple[Registry[Any], str]] = {}
    for spec in specs:
        named: list[tuple[Registry[Any], str]] = [
            (catalog.datasets(), spec.dataset.name),
            (catalog.models(), spec.model.name),
            (catalog.optimizers(), spec.optimizer.name),
            *((catalog.probes(), name) for name in spec.probe_options),
        ]
        for registry, name in named:
            used.setdefault((registry.kind, name), (registry, name))
    return list(used.values())
