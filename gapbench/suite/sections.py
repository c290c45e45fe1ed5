"""From a merged document to validated sections: every value checked by itself, every name looked up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gapbench import catalog
from gapbench.catalog import RegimeEntry
from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import unknown_name
from gapbench.suite.layers import Layer
from gapbench.suite.locate import KeyPath
from gapbench.suite.messages import unknown_key, validate, validate_value
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
from gapbench.suite.source import SECTIONS, Document

_UNMATCHED = frozenset({"phases"})
"""Fields whose values are lists, so that a list of alternatives would be ambiguous."""


@dataclass
class Exclude:
    """One [[exclude]]."""

    path: KeyPath
    where: dict[str, Any]
    reason: str


@dataclass
class Override:
    """One [[override]]."""

    path: KeyPath
    where: dict[str, Any]
    layer: Layer


@dataclass
class Arm:
    """One [[arm]]."""

    label: str
    layer: Layer


@dataclass
class Sections:
    """A suite file, section by section."""

    name: str = ""
    summary: str = ""
    run: Layer = field(default_factory=lambda: Layer("run", ("run",), {}))
    grid: dict[str, list[Any]] = field(default_factory=dict)
    grid_broken: bool = False
    arms: list[Arm] = field(default_factory=list)
    excludes: list[Exclude] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    regimes: dict[str, RegimeEntry] = field(default_factory=dict)
    """The catalog's and the suite's own."""
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
    problems.extend(Problem(document.place((key,)), unknown_key(key, SECTIONS, ())) for key in data if key not in SECTIONS)
    root = {key: data[key] for key in ("schema", "name", "summary", "extends") if key in data}
    if isinstance(root.get("schema"), int) and root["schema"] > 1:
        message = f"the suite is of schema {root['schema']} and this gapbench knows schema 1; install a newer gapbench"
        raise SuiteError([Problem(document.place(("schema",)), message)])
    suite = validate(SuiteSection, root, document, (), problems)
    if suite is not None:
        sections.name, sections.summary = suite.name, suite.summary
    _read_regimes(sections, document, problems)
    _read_run_and_grid(sections, document, problems)
    for path, table in _tables(document, "arm", problems):
        arm = validate(ArmSection, table, document, path, problems)
        label = arm.label if arm else str(table.get("label", ""))
        fields = {name: value for name, value in arm.given().items() if name != "label"} if arm else {}
        _check_names(fields or table, path, sections, document, problems)
        if label and label in [other.label for other in sections.arms]:
            problems.append(Problem(document.place((*path, "label")), f"the label {show(label)} stands twice; labels must be unique"))
        sections.arms.append(Arm(label, Layer("arm", path, fields, broken=arm is None)))
    _read_rules(sections, document, problems)
    report = validate(ReportSection, data.get("report", {}), document, ("report",), problems)
    if report is not None:
        sections.report = report
        sections.reference = _where(report.reference, ("report", "reference"), sections, document, problems)
        known = [arm.label for arm in sections.arms]
        for index, label in enumerate(report.arms):
            if label not in known:
                problems.append(Problem(document.place(("report", "arms", index)), unknown_name("arm", label, known)))
    return sections


def _read_regimes(sections: Sections, document: Document, problems: list[Problem]) -> None:
    sections.regimes = dict(catalog.regimes())
    tables = document.data.get("regimes", {})
    if not isinstance(tables, dict):
        problems.append(Problem(document.place(("regimes",)), "must be tables [regimes.NAME]"))
        return
    for name, table in tables.items():
        path = ("regimes", name)
        if name in catalog.regimes():
            message = f"the regime {show(name)} exists already; choose another name (see `gapbench ls regimes`)"
            problems.append(Problem(document.place(path), message))
            continue
        regime = validate(RegimeSection, table, document, path, problems)
        entry = {"name": name, "summary": "", **(regime.given() if regime else {})}
        sections.regimes[name] = RegimeEntry(**entry)


def _read_run_and_grid(sections: Sections, document: Document, problems: list[Problem]) -> None:
    data = document.data
    run = validate(RunSection, data.get("run", {}), document, ("run",), problems)
    fields = run.given() if run else {}
    sections.run = Layer("run", ("run",), fields, broken=run is None)
    _check_names(fields or data.get("run"), ("run",), sections, document, problems)
    for index, probe in enumerate(fields.get("probes", [])):
        if probe not in catalog.probes():
            place = document.place(("run", "probes", index))
            problems.append(Problem(place, unknown_name("probe", probe, catalog.probes())))
    if "grid" not in data:
        return
    before = len(problems)
    grid = data["grid"]
    if not isinstance(grid, dict) or not grid:
        problems.append(
            Problem(document.place(("grid",)), "the grid is empty; give at least one axis, such as seed = [0, 1, 2], or remove [grid]")
        )
        grid = {}
    for axis, values in grid.items():
        _read_axis(axis, values, sections, document, problems)
    sections.grid_broken = len(problems) > before


def _read_axis(axis: str, values: Any, sections: Sections, document: Document, problems: list[Problem]) -> None:
    path = ("grid", axis)
    if axis not in RunFields.model_fields:
        if axis in RunSection.model_fields:
            message = f"{axis} changes no number of a run, so it cannot be an axis; put it into [run]"
        else:
            message = unknown_key(axis, RunFields.model_fields, path).replace("unknown key", "unknown axis", 1)
        problems.append(Problem(document.place(path), message))
        return
    if isinstance(document.data.get("run"), dict) and axis in document.data["run"]:
        problems.append(Problem(document.place(path), f"{axis} stands in [run] and in [grid]; a key stands in one of them"))
    if axis in SEEDS:
        try:
            values = expand_seeds(values)
        except ValueError as error:
            problems.append(Problem(document.place(path), str(error)))
            return
    if not isinstance(values, list):
        problems.append(Problem(document.place(path), f"an axis must be a list, such as [{show(values)}], not {show(values)}"))
        return
    if not values:
        problems.append(Problem(document.place(path), f"the axis {axis} is empty; give at least one value or remove it"))
    checked = []
    for index, value in enumerate(values):
        here = (*path, index)
        found = validate_value(axis, value, document, here, problems)
        if found is not None and found in checked:
            problems.append(Problem(document.place(here), f"{show(value)} stands twice in the axis {axis}"))
        elif found is not None:
            _check_names({axis: found}, path, sections, document, problems, at=here)
            checked.append(found)
    sections.grid[axis] = checked


def _read_rules(sections: Sections, document: Document, problems: list[Problem]) -> None:
    for path, table in _tables(document, "exclude", problems):
        conditions = {key: value for key, value in table.items() if key != "reason"}
        reason = table.get("reason")
        if not isinstance(reason, str) or not reason:
            problems.append(Problem(document.place(path), 'needs reason = "...": dropped runs are shown with it'))
        if not conditions:
            problems.append(Problem(document.place(path), "needs at least one key that says which runs are dropped"))
        where = _where(conditions, path, sections, document, problems)
        sections.excludes.append(Exclude(path, where, str(reason)))
    for path, table in _tables(document, "override", problems):
        odd = [key for key in table if key not in ("where", "set")]
        problems.extend(Problem(document.place((*path, key)), unknown_key(key, ("where", "set"), path)) for key in odd)
        missing = [key for key in ("where", "set") if not isinstance(table.get(key), dict) or not table[key]]
        if missing:
            problems.append(Problem(document.place(path), f"needs {' and '.join(missing)} = {{ key = value }}"))
        where = _where(table["where"], (*path, "where"), sections, document, problems) if "where" not in missing else {}
        there = (*path, "set")
        values = validate(SetSection, table["set"], document, there, problems) if "set" not in missing else None
        fields = values.given() if values else {}
        if "seed" in fields:
            problems.append(
                Problem(document.place((*there, "seed")), "the seed cannot be overridden; set init_seed, order_seed or split_seed")
            )
        _check_names(fields or table.get("set"), there, sections, document, problems)
        sections.overrides.append(Override(path, where, Layer("override", there, fields, broken=values is None)))


def _tables(document: Document, key: str, problems: list[Problem]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    tables = document.data.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(Problem(document.place((key,)), f"must be written as [[{key}]], with two brackets"))
        return
    for index, table in enumerate(tables):
        yield (key, index), table


def _where(table: Mapping[str, Any], path: KeyPath, sections: Sections, document: Document, problems: list[Problem]) -> dict[str, Any]:
    """Returns the conditions of an exclude, an override or the reference cell, validated; a list means any of its values."""
    known = ("arm", *(name for name in RunFields.model_fields if name not in _UNMATCHED))
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
        for index, value in enumerate(values if listed else [values]):
            there = (*here, index) if listed else here
            if name == "arm":
                labels = ["", *dict.fromkeys(arm.label for arm in sections.arms)]
                if value in labels:
                    checked.append(value)
                else:
                    problems.append(Problem(document.place(there), unknown_name("arm", str(value), labels[1:])))
                continue
            found = validate_value(name, value, document, there, problems)
            if found is not None:
                _check_names({name: found}, path, sections, document, problems, at=there)
                checked.append(found)
        where[name] = checked
    return where


def _check_names(
    fields: Any, path: KeyPath, sections: Sections, document: Document, problems: list[Problem], at: KeyPath | None = None
) -> None:
    """Adds a problem for every data set, model, optimizer, recipe, preset or regime that does not exist.

    Args:
        fields: validated, or as they were read where some other field did not validate: then what is no name is passed over.
        path: of the table.
        sections: with their regimes.
        document: for places.
        problems: what to add to.
        at: where the value stands, if not at its key below `path`.
    """
    if not isinstance(fields, dict):
        return
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
        if isinstance(name, str) and name not in names:
            problems.append(Problem(document.place(at or (*path, kind)), unknown_name(kind, name, names)))
