"""From a merged document to validated sections: every value checked by itself, every name looked up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gapbench import catalog
from gapbench.catalog import RegimeEntry
from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import unknown_name
from gapbench.suite.layers import Layer, Settings, Unknown, matches
from gapbench.suite.locate import KeyPath
from gapbench.suite.messages import option_mistakes, probably, unknown_key, validate, validate_value
from gapbench.suite.probing import check_probes
from gapbench.suite.schema import (
    SEEDS,
    ArmSection,
    RegimeSection,
    ReportSection,
    RunFields,
    RunSection,
    SetSection,
    SuiteSection,
    expand_seeds,
    show,
)
from gapbench.suite.source import COMPONENTS, SECTIONS, Document

_PLANNED = frozenset({"run", "grid", "arm", "exclude", "override", "regimes"})
"""Sections that say which runs there are."""

_UNMATCHED = frozenset({"phases"})
"""Fields whose values are lists, so that a list of alternatives would be ambiguous."""
_WHERE_KEYS = ("arm", *(name for name in RunFields.model_fields if name not in _UNMATCHED))
_EXCLUDE_KEYS = (*_WHERE_KEYS, "reason")


@dataclass
class Where:
    """The conditions of an exclude or an override."""

    conditions: dict[str, Any]
    whole: bool
    """Whether these are all of its conditions; others that are mistaken may rule a run out."""

    def matches(self, settings: Settings, arm: str) -> bool:
        """Returns whether a run is meant.

        Raises:
            Unknown: that cannot be told.
        """
        if not matches(settings, arm, self.conditions):
            return False
        if not self.whole:
            raise Unknown("where")
        return bool(self.conditions)


@dataclass
class Exclude:
    """One [[exclude]]."""

    path: KeyPath
    where: Where
    reason: str


@dataclass
class Override:
    """One [[override]]."""

    path: KeyPath
    where: Where
    layer: Layer


@dataclass
class Arm:
    """One [[arm]]."""

    label: str
    layer: Layer
    reference: str = ""
    """Label of the arm that it is held against."""


@dataclass
class Sections:
    """A suite file, section by section."""

    name: str = ""
    summary: str = ""
    run: Layer = field(default_factory=lambda: Layer("run", ("run",), {}))
    grid: dict[str, list[Any]] = field(default_factory=dict)
    unknown_axes: frozenset[str] = frozenset()
    """Axes that are there, but none of their values is right."""
    grid_unknown: bool = False
    """Whether there may be axes that are not known at all."""
    arms: list[Arm] = field(default_factory=list)
    excludes: list[Exclude] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    regimes: dict[str, RegimeEntry | None] = field(default_factory=dict)
    """The catalog's and the suite's own; None for one that is mistaken."""
    report: ReportSection = field(default_factory=ReportSection)
    reference: dict[str, Any] = field(default_factory=dict)
    """The validated `report.reference`."""


def read_sections(document: Document, problems: list[Problem]) -> Sections:
    """Returns the validated sections; mistakes are added to `problems` and what they touch is left out or marked broken.

    Raises:
        SuiteError: a suite of a newer schema, of which nothing more can be said.
    """
    data = document.data
    sections = Sections()
    for key in [key for key in data if key not in SECTIONS]:
        problems.append(Problem(document.place((key,)), unknown_key(key, SECTIONS, ())))
        meant = probably(key, SECTIONS)
        if meant in _PLANNED:
            document.whole = False  # what stands there counts for all the rest
        elif meant and meant not in data:
            document.damaged.add((meant,))
    root = {key: data[key] for key in ("schema", "name", "summary", "extends") if key in data}
    if isinstance(root.get("schema"), int) and root["schema"] > 1:
        message = f"the suite is of schema {root['schema']} and this gapbench knows schema 1; install a newer gapbench"
        raise SuiteError([Problem(document.place(("schema",)), message)])
    suite = validate(SuiteSection, root, document, (), problems).value
    if suite is not None:
        sections.name, sections.summary = suite.name, suite.summary
    _read_regimes(sections, document, problems)
    _read_run(sections, document, problems)
    _read_grid(sections, document, problems)
    for path, table in _tables(document, "arm", problems):
        arm = validate(ArmSection, table, document, path, problems, fill={"label": "?"})
        label = table["label"] if isinstance(table.get("label"), str) else ""
        given = arm.given()
        fields = {name: value for name, value in given.items() if name not in ("label", "reference")}
        _check_names(fields, path, sections, document, problems)
        if label and label in [other.label for other in sections.arms]:
            problems.append(Problem(document.place((*path, "label")), f"the label {show(label)} stands twice; labels must be unique"))
        sections.arms.append(Arm(label, Layer("arm", path, fields, broken=arm.broken), given.get("reference", "")))
    for own in sections.arms:
        labels = [other.label for other in sections.arms if other is not own]
        if own.reference and own.reference not in labels and _labels_known(sections, document):
            problems.append(Problem(document.place((*own.layer.path, "reference")), unknown_name("arm", own.reference, labels)))
    _read_rules(sections, document, problems)
    _read_report(sections, document, problems)
    return sections


def _read_regimes(sections: Sections, document: Document, problems: list[Problem]) -> None:
    sections.regimes = dict(catalog.regimes())
    tables = document.data.get("regimes", {})
    if not isinstance(tables, dict):
        message = "must be tables [regimes.NAME], each a regime of the suite's own; a run names its regime in [run], [grid] or an [[arm]]"
        problems.append(Problem(document.place(("regimes",)), message))
        return
    for name, table in tables.items():
        path = ("regimes", name)
        regime = validate(RegimeSection, table, document, path, problems)
        if name in catalog.regimes():
            message = f"the regime {show(name)} exists already; choose another name (see `gapbench ls regimes`)"
            problems.append(Problem(document.place(path), message))
            continue
        sound = regime.value is not None and not regime.broken
        sections.regimes[name] = RegimeEntry(**{"name": name, "summary": "", **regime.given()}) if sound else None


def _read_run(sections: Sections, document: Document, problems: list[Problem]) -> None:
    path, table = _table(document, "run", problems)
    run = validate(RunSection, table, document, path, problems)
    fields = run.given()
    sections.run = Layer("run", path, fields, broken=run.broken)
    _check_names(fields, path, sections, document, problems)
    check_probes(fields, path, document, problems)


def _read_grid(sections: Sections, document: Document, problems: list[Problem]) -> None:
    if "grid" not in document.data:
        return
    path, grid = _table(document, "grid", problems)
    damaged = document.damaged_in(path)
    if not grid and not damaged:
        problems.append(
            Problem(document.place(path), "the grid is empty; give at least one axis, such as seed = [0, 1, 2], or remove [grid]")
        )
        sections.grid_unknown = True
    for axis, values in grid.items():
        _read_axis(axis, values, path, sections, document, problems)
    sections.unknown_axes |= damaged & frozenset(RunFields.model_fields)
    sections.grid_unknown |= not damaged <= frozenset(RunFields.model_fields)


def _read_report(sections: Sections, document: Document, problems: list[Problem]) -> None:
    path, table = _table(document, "report", problems)
    report = validate(ReportSection, table, document, path, problems).value
    if report is None:
        return
    sections.report = report
    sections.reference = _where(report.reference, (*path, "reference"), sections, document, problems).conditions
    known = [arm.label for arm in sections.arms]
    for index, label in enumerate(report.arms):
        if label not in known and _labels_known(sections, document):
            problems.append(Problem(document.place((*path, "arms", index)), unknown_name("arm", label, known)))


def _read_axis(axis: str, values: Any, grid: KeyPath, sections: Sections, document: Document, problems: list[Problem]) -> None:
    path = (*grid, axis)
    if axis not in RunFields.model_fields:
        if axis in RunSection.model_fields:
            message = f"{axis} changes no number of a run, so it cannot be an axis; put it into [run]"
        else:
            message = unknown_key(axis, RunFields.model_fields, path).replace("unknown key", "unknown axis", 1)
            meant = probably(axis, RunFields.model_fields)
            sections.unknown_axes |= {meant} if meant else set()
            sections.grid_unknown |= meant is None
        problems.append(Problem(document.place(path), message))
        return
    if isinstance(document.data.get("run"), dict) and axis in document.data["run"]:
        problems.append(Problem(document.place(path), f"{axis} stands in [run] and in [grid]; a key stands in one of them"))
    checked = _values_of(axis, values, path, sections, document, problems)
    if checked:
        sections.grid[axis] = checked
    else:
        sections.unknown_axes |= {axis}


def _values_of(axis: str, values: Any, path: KeyPath, sections: Sections, document: Document, problems: list[Problem]) -> list[Any]:
    """Returns the values of an axis that are right."""
    if axis in SEEDS:
        try:
            values = expand_seeds(values)
        except ValueError as error:
            problems.append(Problem(document.place(path), str(error)))
            return []
    if not isinstance(values, list):
        problems.append(Problem(document.place(path), f"an axis must be a list, such as [{show(values)}], not {show(values)}"))
        return []
    if not values:
        problems.append(Problem(document.place(path), f"the axis {axis} is empty; give at least one value or remove it"))
    checked: list[Any] = []
    for index, value in enumerate(values):
        here = (*path, index)
        found = validate_value(axis, value, document, here, problems)
        if found is not None and found in checked:
            problems.append(Problem(document.place(here), f"{show(value)} stands twice in the axis {axis}"))
        elif found is not None:
            _check_names({axis: found}, path, sections, document, problems, at=here)
            checked.append(found)
    return checked


def _read_rules(sections: Sections, document: Document, problems: list[Problem]) -> None:
    for path, table in _tables(document, "exclude", problems):
        damaged = document.damaged_in(path)
        reason = table.get("reason")
        conditions = {key: value for key, value in table.items() if key != "reason"}
        for key in [key for key in conditions if "reason" not in table and probably(key, _EXCLUDE_KEYS) == "reason"]:
            problems.append(Problem(document.place((*path, key)), unknown_key(key, _EXCLUDE_KEYS, path)))
            damaged |= {"reason"}
            del conditions[key]
        if (not isinstance(reason, str) or not reason) and "reason" not in damaged:
            problems.append(Problem(document.place(path), 'needs reason = "...": dropped runs are shown with it'))
        if not conditions and not damaged - {"reason"}:
            problems.append(Problem(document.place(path), "needs at least one key that says which runs are dropped"))
        where = _where(conditions, path, sections, document, problems)
        sections.excludes.append(Exclude(path, where, str(reason)))
    for path, table in _tables(document, "override", problems):
        odd = [key for key in table if key not in ("where", "set")]
        problems.extend(Problem(document.place((*path, key)), unknown_key(key, ("where", "set"), path)) for key in odd)
        missing = [key for key in ("where", "set") if not isinstance(table.get(key), dict) or not table[key]]
        meant = {probably(key, ("where", "set")) for key in odd} | document.damaged_in(path)
        if set(missing) - meant:
            problems.append(Problem(document.place(path), f"needs {' and '.join(missing)} = {{ key = value }}"))
        where = Where({}, whole=False)
        if "where" not in missing:
            where = _where(table["where"], (*path, "where"), sections, document, problems)
        there = (*path, "set")
        values = validate(SetSection, table["set"] if "set" not in missing else {}, document, there, problems)
        fields = values.given()
        if "seed" in fields:
            problems.append(
                Problem(document.place((*there, "seed")), "the seed cannot be overridden; set init_seed, order_seed or split_seed")
            )
        _check_names(fields, there, sections, document, problems)
        sections.overrides.append(Override(path, where, Layer("override", there, fields, broken=values.broken)))


def _table(document: Document, key: str, problems: list[Problem]) -> tuple[KeyPath, dict[str, Any]]:
    """Returns a section that is one table, and where it stands; of [[run]] the first."""
    table = document.data.get(key, {})
    if isinstance(table, dict):
        return (key,), table
    if isinstance(table, list) and table and all(isinstance(item, dict) for item in table):
        problems.append(Problem(document.place((key,)), f"must be written as [{key}], with one bracket"))
        return (key, 0), table[0]
    problems.append(Problem(document.place((key,)), f"must be a table, written as [{key}], not {show(table)}"))
    return (key,), {}


def _tables(document: Document, key: str, problems: list[Problem]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    tables = document.data.get(key, [])
    if isinstance(tables, dict):
        problems.append(Problem(document.place((key,)), f"must be written as [[{key}]], with two brackets"))
        yield (key,), tables
    elif not isinstance(tables, list):
        problems.append(Problem(document.place((key,)), f"must be tables, each written as [[{key}]], not {show(tables)}"))
    else:
        for index, table in enumerate(tables):
            if isinstance(table, dict):
                yield (key, index), table
            else:
                problems.append(Problem(document.place((key, index)), f"must be a table, written as [[{key}]], not {show(table)}"))


def _where(table: Mapping[str, Any], path: KeyPath, sections: Sections, document: Document, problems: list[Problem]) -> Where:
    """Returns the conditions of an exclude, an override or the reference cell, validated; a list means any of its values."""
    known = _WHERE_KEYS
    before = len(problems)
    whole = not document.damaged_in(path)
    where: dict[str, Any] = {}
    for name, given in table.items():
        here = (*path, name)
        if name not in known:
            problems.append(Problem(document.place(here), unknown_key(name, known, path)))
            continue
        values, listed = given, isinstance(given, list)
        if name in SEEDS and isinstance(given, str) and given != "seed":
            try:
                values, listed = expand_seeds(given), True
            except ValueError as error:
                problems.append(Problem(document.place(here), str(error)))
                continue
        checked = []
        wrong = len(problems)
        for index, value in enumerate(values if listed else [values]):
            there = (*here, index) if listed else here
            if name == "arm":
                labels = ["", *dict.fromkeys(arm.label for arm in sections.arms)]
                checked.append(value)
                if value not in labels and _labels_known(sections, document):
                    problems.append(Problem(document.place(there), unknown_name("arm", str(value), labels[1:])))
                whole &= value in labels
                continue
            found = validate_value(name, value, document, there, problems)
            if found is not None:
                _check_names({name: found}, path, sections, document, problems, at=there)
                if name in COMPONENTS:
                    problems.extend(Problem(document.place((*there, key)), text) for key, text in option_mistakes(name, found))
                checked.append(found)
        if len(problems) == wrong and (name != "arm" or whole):
            where[name] = checked
    return Where(where, whole=whole and len(problems) == before)


def _labels_known(sections: Sections, document: Document) -> bool:
    """Returns whether the labels of all arms are known, so that another one is a mistake."""
    return document.whole and all(arm.label for arm in sections.arms)


def _check_names(
    fields: Mapping[str, Any], path: KeyPath, sections: Sections, document: Document, problems: list[Problem], at: KeyPath | None = None
) -> None:
    """Adds a problem for every data set, model, optimizer, recipe, preset or regime that does not exist.

    Args:
        fields: those that are right by themselves.
        path: of the table.
        sections: with their regimes.
        document: for places.
        problems: what to add to.
        at: where the value stands, if not at its key below `path`.
    """
    components: dict[str, Mapping[str, Any]] = {"dataset": catalog.datasets(), "model": catalog.models(), "optimizer": catalog.optimizers()}
    for kind, registry in components.items():
        component = fields.get(kind)
        name = component.get("name") if isinstance(component, dict) else component
        if isinstance(name, str) and name not in registry:
            problems.append(Problem(document.place(at or (*path, kind)), unknown_name(kind, name, registry)))
    presets = {preset for recipe in catalog.recipes().values() for preset in recipe.presets}
    named: dict[str, Collection[str]] = {"recipe": catalog.recipes(), "preset": presets, "regime": sections.regimes}
    for kind, names in named.items():
        name = fields.get(kind)
        if isinstance(name, str) and name not in names and (kind != "regime" or document.whole):
            problems.append(Problem(document.place(at or (*path, kind)), unknown_name(kind, name, names)))
