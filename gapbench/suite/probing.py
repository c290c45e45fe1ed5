"""The probes of a suite: names and options checked, and whether those that look at fractions of the training are ever called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gapbench import catalog
from gapbench.core.errors import Problem
from gapbench.core.registry import unknown_name
from gapbench.suite.asked import Asked
from gapbench.suite.locate import KeyPath
from gapbench.suite.runspec import Component
from gapbench.suite.source import Document


def check_probes(fields: Mapping[str, Any], path: KeyPath, document: Document, problems: list[Problem]) -> None:
    """Adds a problem for every probe of [run] that does not exist, stands twice, has a mistaken option or would never be called."""
    seen: set[str] = set()
    for index, table in enumerate(fields.get("probes", [])):
        name, here = table["name"], (*path, "probes", index)
        if name not in catalog.probes():
            problems.append(Problem(document.place(here), unknown_name("probe", name, catalog.probes())))
            continue
        if name in seen:
            problems.append(Problem(document.place(here), f'the probe "{name}" stands twice; its values would be two of one name'))
        seen.add(name)
        entry = catalog.probes()[name]
        options, mistakes = catalog.check_options(entry.parameters, _given(table), owner=f'probe "{name}"')
        problems.extend(Problem(document.place((*here, option)), message) for option, message in mistakes)
        if entry.stage == "checkpoint" and not mistakes and not options["at"] and not fields.get("keep_weights"):
            message = (
                f'the probe "{name}" looks where weights are kept, and they are kept nowhere; '
                f'set keep_weights = [0, 0.5, 1], or write {{name = "{name}", at = [0, 0.5, 1]}}'
            )
            problems.append(Problem(document.place(here), message))


def check_norm_group(asked: Asked, model: Component) -> None:
    """Adds a problem where a probe needs norm groups of one size and batch norm is over the whole batch, whatever that is."""
    probes = catalog.probes()
    named = [table["name"] for table in asked.get("probes", []) if table["name"] in probes]
    grouped = [name for name in named if probes[name].needs_norm_group]
    coupled = model.name not in catalog.models() or catalog.models()[model.name].has_batch_norm(model.options)
    if grouped and coupled and asked.get("ghost_batch_size", "off") == "off":
        asked.problem(
            "probes",
            f'the probe "{grouped[0]}" needs norm groups of a fixed size: over the whole batch, batch norm couples all examples, and '
            "what it measures changes with the batch size; set ghost_batch_size = 32, at batch size 32, too, or train without batch norm",
        )


def resolved_probes(tables: Sequence[Mapping[str, Any]]) -> tuple[str | Component, ...]:
    """Returns the probes of a run: a name where no option was given, else the component with all its options."""
    probes: list[str | Component] = []
    for table in tables:
        name, given = table["name"], _given(table)
        if not given:
            probes.append(name)
        elif name in catalog.probes():
            entry = catalog.probes()[name]
            options, mistakes = catalog.check_options(entry.parameters, given, owner=name)
            if not mistakes:
                probes.append(Component(name=name, version=entry.version, options=options))
    return tuple(probes)


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    return {option: value for option, value in table.items() if option != "name"}
