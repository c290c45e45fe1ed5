"""The layers of a run's settings, from its recipe to [[override]]: a field has the value of the highest layer that sets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gapbench.core.errors import Problem
from gapbench.suite.batches import effective_ghost
from gapbench.suite.mistakes import Unknown
from gapbench.suite.schema import NormalizationTable, default_of
from gapbench.suite.source import COMPONENTS, Document
from gapbench.suite.toml import KeyPath

_HEIGHTS = {"recipe": 0, "preset": 1, "run": 2, "grid": 3, "arm": 3, "override": 4}


@dataclass(frozen=True)
class Layer:
    """Fields that were set in one place."""

    kind: str
    """recipe, preset, run, grid, arm or override."""
    path: KeyPath
    """Where in the document: fields stand below it, but the value of a grid axis stands at it. Empty for recipes."""
    fields: Mapping[str, Any]
    broken: frozenset[str] = frozenset()
    """Fields that are given here with an invalid value, which is then unknown."""
    opaque: bool = False
    """Whether any field may have been given here: the layers of a recipe that does not exist."""
    tuned: bool = False
    """Whether these values were found by `gapbench tune`."""

    def hides(self, name: str) -> bool:
        """Returns whether this layer may set a field to a value that is unknown."""
        return self.opaque or name in self.broken

    def gives(self, name: str) -> bool:
        """Returns whether this layer sets a field, be it to a value that is unknown."""
        return name in self.fields or self.hides(name)

    @property
    def gives_any(self) -> bool:
        """Whether this layer sets any field."""
        return bool(self.fields or self.broken)

    def hidden(self) -> Layer:
        """Returns this layer with all its values unknown: it may or may not be there."""
        return Layer(self.kind, self.path, {}, self.broken | frozenset(self.fields), self.opaque)

    def place(self, name: str) -> KeyPath:
        """Returns the key path of a field."""
        return self.path if self.kind == "grid" or not self.path else (*self.path, name)


@dataclass(frozen=True)
class Settings:
    """All layers of one run, lowest first."""

    layers: tuple[Layer, ...]
    _found: dict[str, Layer | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Answers of `layer_of`, which is called several times for each field."""

    @property
    def sound(self) -> bool:
        """Whether no value is unknown. Where some are, methods that come upon one raise Unknown."""
        return not any(layer.broken or layer.opaque for layer in self.layers)

    def layer_of(self, name: str) -> Layer | None:
        """Returns the highest layer that sets a field, or None."""
        if name in self._found:
            return self._found[name]
        found = None
        for layer in reversed(self.layers):
            if layer.hides(name):
                raise Unknown(name)
            if name in layer.fields:
                found = layer
                break
        self._found[name] = found
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a field's value; for components merged options (without the schema's defaults)."""
        if name in COMPONENTS:
            return self.component(name) or default
        layer = self.layer_of(name)
        return default if layer is None else layer.fields[name]

    def component(self, kind: str) -> dict[str, Any]:
        """Returns name and options of a component: a named table begins anew, one without a name changes options."""
        merged: dict[str, Any] | None = {}
        for layer in self.layers:
            table = layer.fields.get(kind)
            if layer.hides(kind):
                merged = None
            elif table is not None and "name" in table:
                merged = dict(table)
            elif table is not None and merged is not None:
                merged = {**merged, **table}
        if merged is None:
            raise Unknown(kind)
        return merged

    def height(self, name: str) -> int:
        """Returns the height of the layer that sets a field, -1 where none does. Arms are as high as the grid."""
        layer = self.layer_of(name)
        return -1 if layer is None else _HEIGHTS[layer.kind]

    def is_final(self, name: str) -> bool:
        """Returns whether an [[override]] sets a field, so that no regime changes it."""
        layer = self.layer_of(name)
        return layer is not None and layer.kind == "override"

    def place(self, name: str) -> KeyPath:
        """Returns the key path of the highest layer that sets a field; an empty path where it comes from a recipe."""
        layer = self.layer_of(name)
        return () if layer is None else layer.place(name)

    def option_place(self, kind: str, option: str) -> KeyPath:
        """Returns the key path of a component's option, or else of the component."""
        for layer in reversed(self.layers):
            table = layer.fields.get(kind)
            if table is not None and option in table:
                return (*layer.place(kind), option) if layer.path else ()
        return self.place(kind)

    def only(self, *kinds: str) -> Settings:
        """Returns the settings of some kinds of layers."""
        return Settings(tuple(layer for layer in self.layers if layer.kind in kinds))

    def with_layer(self, layer: Layer) -> Settings:
        """Returns the settings with a layer on top."""
        return Settings((*self.layers, layer))


def matches(settings: Settings, arm: str, where: Mapping[str, Any]) -> bool:
    """Returns whether a run has all the values of `where`; a list there means any of them.

    `arm` is the label of the run's [[arm]], empty for runs of the [grid]. A component given by name matches whatever its options.

    Raises:
        Unknown: it depends on a value that is unknown.
    """
    unknown: Unknown | None = None
    for name, values in where.items():
        try:
            if not any(_equals(settings, arm, name, wanted) for wanted in (values if isinstance(values, list) else [values])):
                return False
        except Unknown as error:  # another condition may still rule the run out
            unknown = error
    if unknown:
        raise unknown
    return True


def _equals(settings: Settings, arm: str, name: str, wanted: Any) -> bool:
    if name == "arm":
        return bool(arm == wanted)
    if name in COMPONENTS:
        component = settings.component(name)
        return all(component.get(option) == value for option, value in wanted.items())
    if name == "ghost_batch_size":
        # A ghost batch of the batch's size is the whole batch, unless the batch grows: it is found under both names.
        return bool(ghost_of(settings) == (None if wanted == "off" else wanted) or settings.get(name, "off") == wanted)
    if name == "regime":
        return bool(settings.get("regime", "baseline") == wanted)
    value = settings.get(name, 0 if name == "seed" else None)
    if isinstance(value, NormalizationTable) and isinstance(wanted, NormalizationTable):
        return value == wanted
    return bool(value == wanted)


def ghost_of(settings: Settings) -> int | None:
    """Returns the effective ghost batch size: None where it is off or the whole batch."""
    return effective_ghost(settings.get("ghost_batch_size", "off"), settings.get("batch_size"))


REQUIRED = ("dataset", "model", "optimizer", "batch_size", "reference_batch_size", "epochs", "learning_rate")
"""Fields that every run needs, from wherever."""


@dataclass(frozen=True)
class RunSettings:
    """The settings of one run, and where in the suite a mistake in them is told."""

    settings: Settings
    """All layers, recipe and preset included."""
    base: KeyPath
    """The [[arm]] or section that the run comes from, for mistakes that have no other place."""
    document: Document
    cell: str
    """Name of its cell, for warnings."""
    no_effect: list[tuple[str, str]]
    """Warnings of settings that change nothing, as (what, cell)."""
    misfits: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """By place and ghost batch size: the batch sizes that it does not divide."""

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a field's value: where it is not set `default`, or else the default of the schema.

        Raises:
            Unknown: the value is invalid, or it is required and not set.
        """
        if name == "phases" and self.schedule != "phases":
            return []
        value = self.settings.get(name, default_of(name) if default is None else default)
        if name in REQUIRED and not value:
            raise Unknown(name)
        return value

    @property
    def schedule(self) -> str:
        """The schedule by name; `phases` also where phases are set above it."""
        above = self.settings.height("schedule") >= self.settings.height("phases")
        return str(self.settings.get("schedule", "phases")) if above else "phases"

    def lacks(self, name: str) -> bool:
        """Returns whether a field is set nowhere."""
        try:
            return not self.settings.get(name)
        except Unknown:
            return False

    def number(self, name: str, word: str) -> float | None:
        """Returns a number, or None where the word stands for none."""
        value = self.get(name)
        return None if value == word else value

    def first_set(self, name: str, other: str) -> str:
        """Returns which of two fields a mistake in both is told at: the first, where it is set at all."""
        return name if self.settings.layer_of(name) else other

    def warn(self, what: str) -> None:
        """Adds a warning about a setting that changes nothing."""
        self.no_effect.append((what, self.cell))

    def problem(self, name: str, message: str, option: str = "") -> None:
        """Adds a mistake in a field, or in an option of a component."""
        self.document.problems.append(Problem(self.place(name, option), message))

    def place(self, name: str, option: str = "") -> str:
        """Returns where a field, or an option of a component, was written."""
        path = self.settings.option_place(name, option) if option else self.settings.place(name)
        return self.document.place(path or self.base)
