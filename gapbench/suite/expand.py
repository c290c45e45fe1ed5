"""Expanding a suite: the product of the grid's axes, and every arm times the axes that it leaves open."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gapbench import catalog
from gapbench.catalog import Budget, show
from gapbench.suite.layers import Layer, Settings
from gapbench.suite.mistakes import Unknown
from gapbench.suite.schema import SEEDS, RunFields
from gapbench.suite.sections import Arm, Sections
from gapbench.suite.source import COMPONENTS
from gapbench.suite.toml import KeyPath


@dataclass(frozen=True)
class Draft:
    """One run, not yet resolved."""

    settings: Settings
    """[run], then the grid's axes, then the arm; recipe and overrides are added by `complete`."""
    cell: str
    arm: str
    base: KeyPath
    """The section that it comes from."""
    order: int
    """Position of its cell."""
    reference: str = ""
    """Name of the cell that its arm is held against, where the arm says so."""
    axes: Mapping[str, str] = field(default_factory=dict)
    """Its levels on the axes of the grid, seeds left out."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What the name of its cell is put together from, as in `Labels`."""


MAXIMUM_RUNS = 100_000
"""More runs than this are taken for a mistake, such as a seed too long."""


def count_runs(sections: Sections) -> int:
    """Returns how many runs `expand` makes, at most."""
    sizes = {axis: len(values) for axis, values in sections.grid.items()}
    arms = [math.prod(size for axis, size in sizes.items() if not _gives(arm.layer, axis)) for arm in sections.arms]
    return sum(arms) + math.prod(sizes.values())


def expand(sections: Sections) -> list[Draft]:
    """Returns every run of a suite, cell by cell, before overrides and excludes.

    The grid's own product is left out where there are arms and the grid has no axis but seeds: then it only lists the
    seeds of the arms.
    """
    ranks = {label: rank for rank, label in enumerate(sections.report.arms)}
    groups: list[Arm | None] = [*sorted(sections.arms, key=lambda arm: ranks.get(arm.label, len(ranks)))]
    if _has_own_product(sections):
        groups.append(None)
    drafts: list[Draft] = []
    order = 0
    for arm in groups:
        left_open = {axis: values for axis, values in sections.grid.items() if arm is None or not _gives(arm.layer, axis)}
        axes, seeds = ({axis: values for axis, values in left_open.items() if (axis in SEEDS) == wanted} for wanted in (False, True))
        for values in _product(axes):
            words = _words(values, axes)
            named = {"arm": arm.label, **words} if arm else words or _plain_cell(sections.run)
            draft = Draft(
                Settings(()),
                ", ".join(named.values()),
                arm.label if arm else "",
                arm.layer.path if arm else ("run",) if _sets_anything(sections.run) else ("grid",),
                order,
                ", ".join([arm.reference, *words.values()]) if arm and arm.reference else "",
                _levels(values, axes),
                named,
            )
            for chosen in _product(seeds):
                layers = (sections.run, *_axis_layers({**values, **chosen}, sections), *_unknown_axes(sections))
                drafts.append(replace(draft, settings=Settings((*layers, arm.layer) if arm else layers)))
            order += 1
    return drafts


def _has_own_product(sections: Sections) -> bool:
    """Returns whether the grid makes runs besides those of the arms."""
    unknown = sections.unknown_axes - set(SEEDS)
    only_seeds = sections.arms and not unknown and all(axis in SEEDS for axis in sections.grid)
    nothing = not (sections.grid or unknown or _sets_anything(sections.run))
    return not (sections.grid_unknown or only_seeds or nothing)


def complete(settings: Settings) -> Settings:
    """Returns settings with the layers of their recipe and preset below all others; what an unknown recipe sets is unknown."""
    try:
        name = settings.get("recipe", "")
        if not name:
            return settings
        recipe = catalog.recipes().find(name)
        preset = settings.get("preset", recipe.default_preset if recipe else "")
    except Unknown:
        recipe, preset = None, ""
    if recipe is None or preset not in recipe.presets:
        return Settings((Layer("recipe", (), {}, opaque=True), *settings.layers))
    return Settings((*_recipe_layers(recipe.name, preset), *settings.layers))


@functools.lru_cache(maxsize=64)
def _recipe_layers(name: str, preset: str) -> tuple[Layer, ...]:
    recipe = catalog.recipes()[name]
    return _recipe_layer("recipe", recipe.fields), _recipe_layer("preset", recipe.presets[preset].fields)


def _recipe_layer(kind: str, fields: Mapping[str, Any]) -> Layer:
    return Layer(kind, (), RunFields.model_validate(dict(fields), strict=True).given())


def _product(axes: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _axis_layers(values: Mapping[str, Any], sections: Sections) -> Iterator[Layer]:
    for axis, value in values.items():
        yield Layer("grid", ("grid", axis, sections.grid[axis].index(value)), {axis: value})


def _unknown_axes(sections: Sections) -> tuple[Layer, ...]:
    """Returns a layer that hides the axes of which no value is known."""
    return (Layer("grid", ("grid",), {}, broken=sections.unknown_axes),) if sections.unknown_axes else ()


def _gives(layer: Layer, name: str) -> bool:
    return name in layer.fields or layer.hides(name)


def _sets_anything(layer: Layer) -> bool:
    return bool(layer.fields or layer.broken)


def _words(values: Mapping[str, Any], axes: Mapping[str, list[Any]]) -> dict[str, str]:
    """Returns the values of the axes that vary, in words that tell their axis."""
    return {axis: _prefix(axis, value) + _level(axis, value, axes[axis]) for axis, value in values.items() if len(axes[axis]) > 1}


def _levels(values: Mapping[str, Any], axes: Mapping[str, list[Any]]) -> dict[str, str]:
    """Returns the level of every axis, in words that do not repeat the axis."""
    return {axis: _level(axis, value, axes[axis]) for axis, value in values.items()}


def _prefix(axis: str, value: Any) -> str:
    if axis in ("regime", "recipe", "preset", "precision") or (axis in COMPONENTS and ("name" in value or not value)):
        return ""
    short = {"batch_size": "B", "ghost_batch_size": "ghost", "learning_rate": "rate", "learning_rate_scaling": "rule"}
    return f"{short.get(axis) or axis.replace('_', ' ')} "


def _level(axis: str, value: Any, values: list[Any]) -> str:
    if axis == "learning_rate":
        return f"{value:g}"
    if axis in COMPONENTS:
        return _component_level(value, values) or axis
    if isinstance(value, Budget):
        return value.kind if value.factor == 1 else f"{value.factor:g}x {value.kind}"
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, list):
        value = [item.model_dump(exclude_unset=True) if hasattr(item, "model_dump") else item for item in value]
    return show(value).strip('"')


def _component_level(value: Mapping[str, Any], values: list[Any]) -> str:
    """Returns a component's name, with the options that distinguish it from the others of the axis."""
    options = {key for other in values for key in other if key != "name"}
    varying = sorted(key for key in options if any(other.get(key) != value.get(key) for other in values))
    words = [f"{key} " + show(value[key]).strip('"') for key in varying if key in value]
    return " ".join([*([value["name"]] if "name" in value else []), *words])


def _plain_cell(run: Layer) -> dict[str, str]:
    batch_size = run.fields.get("batch_size")
    return {"batch_size": f"B {batch_size}"} if batch_size else {"": "run"}
