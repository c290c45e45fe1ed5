"""From a merged document to validated sections: every value checked by itself, every name looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gapbench import catalog
from gapbench.catalog import RegimeEntry, show
from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import refusal_of_name, refusal_of_text, seen, unknown_name
from gapbench.suite.layers import Layer, Settings, matches
from gapbench.suite.mistakes import Unknown, option_mistakes, probably, unknown_key, validate, validate_value
from gapbench.suite.runspec import Component
from gapbench.suite.schema import (
    LARGEST,
    SEEDS,
    ArmSection,
    RegimeSection,
    ReportSection,
    RunFields,
    RunSection,
    SetSection,
    SuiteSection,
    TuneSection,
    expand_seeds,
)
from gapbench.suite.source import COMPONENTS, SECTIONS, Document
from gapbench.suite.toml import KeyPath

# The probes of a suite: names and options checked, and whether those that look at fractions of the training are ever called.


def read_probes(fields: Mapping[str, Any], path: KeyPath, document: Document) -> tuple[str | Component, ...]:
    """Returns the probes of [run]: a name where no option was given, else the component with all its options.

    Adds a mistake for every one that does not exist, stands twice, has an invalid option or would never be called.
    """
    probes: list[str | Component] = []
    seen: set[str] = set()
    for index, table in enumerate(fields["probes"]):
        given = dict(table)
        name, here = given.pop("name"), (*path, "probes", index)
        entry = catalog.probes().find(name)
        if entry is None:
            document.mistake(here, unknown_name("probe", name, catalog.probes()))
            continue
        if name in seen:
            document.mistake(here, f'the probe "{name}" stands twice; its values would be two of one name')
        seen.add(name)
        options, mistakes = catalog.check_options(entry.parameters, given, owner=f'probe "{name}"')
        for option, message in mistakes:
            document.mistake((*here, option), message)
        if entry.stage == "checkpoint" and not mistakes and not options["at"] and not fields.get("keep_weights"):
            message = (
                f'the probe "{name}" looks where weights are kept, and they are kept nowhere; '
                f'set keep_weights = [0, 0.5, 1], or write {{name = "{name}", at = [0, 0.5, 1]}}'
            )
            document.mistake(here, message)
        probes.append(Component(name=name, version=entry.version, options=options) if given else name)
    return tuple(probes)


# [tune]: what its keys say together.


def read_tune(path: KeyPath, table: Mapping[str, Any], document: Document) -> TuneSection:
    """Returns the validated section without its invalid keys; adds their mistakes."""
    checked = validate(TuneSection, table, document, path)
    tune = checked.value or TuneSection()
    if checked.broken or checked.value is None:
        return tune
    for name in ("momentum", "weight_decay", "warmup"):
        if name in tune.search and not getattr(tune, name):
            message = f"{name} is searched, so [tune] needs the values: {name} = [..., ...]"
            document.mistake((*path, "search"), message)
        elif name in table and name not in tune.search:
            message = f'has no effect, because {name} is not searched; write search = [..., "{name}"], or remove it'
            document.mistake((*path, name), message)
        elif len(set(getattr(tune, name))) < len(getattr(tune, name)):
            document.mistake((*path, name), "must be different values")
    of_rates = () if "learning_rate" in tune.search else ("step", "trials", "extend_by", "extend_at_most")
    idle = "has no effect, because learning_rate is not searched; remove it"
    for name in of_rates:
        if name in table:
            document.mistake((*path, name), idle)
    if len(set(tune.search)) < len(tune.search):
        document.mistake((*path, "search"), "names something twice")
    shared = sorted(set(tune.seeds) & set(tune.check_seeds))
    if shared:
        message = f"must be fresh seeds, and {', '.join(map(str, shared))} stand in seeds, too; choose others"
        document.mistake((*path, "check_seeds"), message)
    return tune


_PLANNED = frozenset({"run", "grid", "arm", "exclude", "override", "regimes"})
"""Sections that say which runs there are."""

_UNMATCHED = frozenset({"phases"})
"""Fields whose values are lists, so that a list of alternatives would be ambiguous."""
_WHERE_KEYS = ("arm", *(name for name in RunFields.model_fields if name not in _UNMATCHED))
_EXCLUDE_KEYS = (*_WHERE_KEYS, "reason")
_OVERRIDE_KEYS = ("where", "set", "tuned")


@dataclass
class Where:
    """The conditions of an exclude or an override."""

    conditions: dict[str, Any]
    whole: bool
    """Whether these are all of its conditions: an invalid one may rule a run out."""

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
    alternative_to: str = ""
    """Cell whose values might as well be its own."""


@dataclass
class Sections:
    """A suite file, section by section."""

    name: str = ""
    summary: str = ""
    run: Layer = field(default_factory=lambda: Layer("run", ("run",), {}))
    grid: dict[str, list[Any]] = field(default_factory=dict)
    unknown_axes: frozenset[str] = frozenset()
    """Axes of which no value is valid."""
    grid_unknown: bool = False
    """Whether there may be axes besides these."""
    arms: list[Arm] = field(default_factory=list)
    excludes: list[Exclude] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    regimes: dict[str, RegimeEntry | None] = field(default_factory=dict)
    """The catalog's and the suite's own; None for an invalid one."""
    report: ReportSection = field(default_factory=ReportSection)
    reference: dict[str, Any] = field(default_factory=dict)
    """The validated `report.reference`."""
    tune: TuneSection = field(default_factory=TuneSection)


def read_sections(document: Document) -> Sections:
    """Returns the validated sections; adds every mistake, and what it touches is left out or marked broken.

    Raises:
        SuiteError: a suite of a newer schema, of which nothing more can be said.
    """
    sections = Sections()
    _check_values(document.data, (), document)
    _read_root(sections, document)
    _read_regimes(sections, document)
    _read_run(sections, document)
    _read_grid(sections, document)
    _read_arms(sections, document)
    _read_excludes(sections, document)
    _read_overrides(sections, document)
    _read_report(sections, document)
    sections.tune = read_tune(*_table(document, "tune"), document)
    return sections


_SENTENCES = ("summary", "reason")
"""Keys whose texts may have several lines."""


def _check_values(value: Any, path: KeyPath, document: Document) -> None:
    """Adds a mistake for every text or key with characters that nobody sees, and for every whole number that no table holds."""
    if isinstance(value, str) and (refusal := refusal_of_text(value, lines=path[-1] in _SENTENCES)):
        document.mistake(path, refusal)
    elif isinstance(value, int) and abs(value) > LARGEST:
        document.mistake(path, f"must be at most {LARGEST}, the largest whole number of a table, not {value}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if refusal := refusal_of_text(key):
                document.mistake(path, f"the key {show(key)} {refusal}")
            else:
                _check_values(item, (*path, key), document)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_values(item, (*path, index), document)


def _read_root(sections: Sections, document: Document) -> None:
    data = document.data
    for key in [key for key in data if key not in SECTIONS]:
        document.mistake((key,), unknown_key(key, SECTIONS, ()))
        meant = probably(key, SECTIONS)
        if meant in _PLANNED:
            document.whole = False  # what stands there counts for all the rest
        elif meant and meant not in data:
            document.damaged.add((meant,))
    root = {key: data[key] for key in ("schema", "name", "summary", "extends") if key in data}
    if isinstance(root.get("schema"), int) and root["schema"] > 1:
        message = f"the suite is of schema {root['schema']} and this gapbench knows schema 1; install a newer gapbench"
        raise SuiteError([Problem(document.place(("schema",)), message)])
    suite = validate(SuiteSection, root, document, ()).value
    if suite is not None:
        sections.name, sections.summary = suite.name, suite.summary


def _read_regimes(sections: Sections, document: Document) -> None:
    sections.regimes = dict(catalog.regimes())
    tables = document.data.get("regimes", {})
    if not isinstance(tables, dict):
        message = "must be tables [regimes.NAME], each a regime of the suite's own; a run names its regime in [run], [grid] or an [[arm]]"
        document.mistake(("regimes",), message)
        return
    for name, table in tables.items():
        path = ("regimes", name)
        regime = validate(RegimeSection, table, document, path)
        if name in catalog.regimes():
            message = f"the regime {show(name)} exists already; choose another name (see `gapbench ls regimes`)"
            document.mistake(path, message)
            continue
        if (refusal := refusal_of_name(name)) and not refusal_of_text(name):
            document.mistake(path, f"the name {refusal}")
        sound = regime.value is not None and not regime.broken and not refusal
        sections.regimes[name] = RegimeEntry(**{"name": name, "summary": "", **regime.given()}) if sound else None


def _read_run(sections: Sections, document: Document) -> None:
    path, table = _table(document, "run")
    run = validate(RunSection, table, document, path)
    fields = run.given()
    _check_names(fields, path, sections, document)
    if "probes" in fields:
        fields["probes"] = read_probes(fields, path, document)
    sections.run = Layer("run", path, fields, broken=run.broken)


def _read_grid(sections: Sections, document: Document) -> None:
    if "grid" not in document.data:
        return
    path, grid = _table(document, "grid")
    damaged = document.damaged_in(path)
    if not grid and not damaged:
        document.mistake(path, "the grid is empty; give at least one axis, such as seed = [0, 1, 2], or remove [grid]")
        sections.grid_unknown = True
    for axis, values in grid.items():
        _read_axis(axis, values, path, sections, document)
    sections.unknown_axes |= damaged & frozenset(RunFields.model_fields)
    sections.grid_unknown |= not damaged <= frozenset(RunFields.model_fields)


def _read_arms(sections: Sections, document: Document) -> None:
    for path, table in _tables(document, "arm"):
        arm = validate(ArmSection, table, document, path, fill={"label": "?"})
        label = table["label"] if isinstance(table.get("label"), str) else ""
        fields = arm.given()
        reference, alternative_to, _ = fields.pop("reference", ""), fields.pop("alternative_to", ""), fields.pop("label", "")
        _check_names(fields, path, sections, document)
        _check_label(label, path, sections, document)
        sections.arms.append(Arm(label, Layer("arm", path, fields, broken=arm.broken), reference, alternative_to))
    for own in sections.arms:
        labels = [other.label for other in sections.arms if other is not own]
        if own.reference and own.reference not in labels and _labels_known(sections, document):
            document.mistake((*own.layer.path, "reference"), unknown_name("arm", own.reference, labels))


def _check_label(label: str, path: KeyPath, sections: Sections, document: Document) -> None:
    others = [other.label for other in sections.arms if other.label]
    alike = next((other for other in others if seen(other) == seen(label)), None)
    if label and label in others:
        document.mistake((*path, "label"), f"the label {show(label)} stands twice; labels must be unique")
    elif label and not refusal_of_text(label):
        if refusal := refusal_of_name(label):
            document.mistake((*path, "label"), f"the label {refusal}")
        if alike:
            document.mistake((*path, "label"), f"the label {show(label)} reads like {show(alike)}; choose another")


def _read_report(sections: Sections, document: Document) -> None:
    path, table = _table(document, "report")
    report = validate(ReportSection, table, document, path).value
    if report is None:
        return
    sections.report = report
    sections.reference = _where(report.reference, (*path, "reference"), sections, document).conditions
    known = [arm.label for arm in sections.arms]
    for index, label in enumerate(report.arms):
        if label not in known and _labels_known(sections, document):
            document.mistake((*path, "arms", index), unknown_name("arm", label, known))


def _read_axis(axis: str, values: Any, grid: KeyPath, sections: Sections, document: Document) -> None:
    path = (*grid, axis)
    if axis not in RunFields.model_fields:
        if axis in RunSection.model_fields:
            message = f"{axis} changes no number of a run, so it cannot be an axis; put it into [run]"
        else:
            message = unknown_key(axis, RunFields.model_fields, path).replace("unknown key", "unknown axis", 1)
            meant = probably(axis, RunFields.model_fields)
            sections.unknown_axes |= {meant} if meant else set()
            sections.grid_unknown |= meant is None
        document.mistake(path, message)
        return
    if isinstance(document.data.get("run"), dict) and axis in document.data["run"]:
        document.mistake(path, f"{axis} stands in [run] and in [grid]; a key stands in one of them")
    checked = _values_of(axis, values, path, sections, document)
    if checked:
        sections.grid[axis] = checked
    else:
        sections.unknown_axes |= {axis}


def _values_of(axis: str, values: Any, path: KeyPath, sections: Sections, document: Document) -> list[Any]:
    """Returns the valid values of an axis."""
    before = len(document.problems)
    if axis in SEEDS:
        values = _seeds(values, path, document)
    if not isinstance(values, list):
        document.mistake(path, f"an axis must be a list, such as [{show(values)}], not {show(values)}")
        return []
    if not values and len(document.problems) == before:
        document.mistake(path, f"the axis {axis} is empty; give at least one value or remove it")
    checked: list[Any] = []
    seen: set[int] = set()  # of seeds, of which there may be very many
    for index, value in enumerate(values):
        here = (*path, index)
        found = validate_value(axis, value, document, here)
        if found is not None and found in (seen if axis in SEEDS else checked):
            document.mistake(here, f"{show(value)} stands twice in the axis {axis}")
        elif found is not None:
            if axis in SEEDS:
                seen.add(found)
            else:
                _check_names({axis: found}, path, sections, document, at=here)
            checked.append(found)
    return checked


def _read_excludes(sections: Sections, document: Document) -> None:
    for path, table in _tables(document, "exclude"):
        damaged = document.damaged_in(path)
        reason = table.get("reason")
        conditions = {key: value for key, value in table.items() if key != "reason"}
        for key in [key for key in conditions if "reason" not in table and probably(key, _EXCLUDE_KEYS) == "reason"]:
            document.mistake((*path, key), unknown_key(key, _EXCLUDE_KEYS, path))
            damaged |= {"reason"}
            del conditions[key]
        if (not isinstance(reason, str) or not reason) and "reason" not in damaged:
            document.mistake(path, 'needs reason = "...": dropped runs are shown with it')
        if not conditions and not damaged - {"reason"}:
            document.mistake(path, "needs at least one key that says which runs are dropped")
        where = _where(conditions, path, sections, document)
        sections.excludes.append(Exclude(path, where, str(reason)))


def _read_overrides(sections: Sections, document: Document) -> None:
    for path, table in _tables(document, "override"):
        odd = [key for key in table if key not in _OVERRIDE_KEYS]
        for key in odd:
            document.mistake((*path, key), unknown_key(key, _OVERRIDE_KEYS, path))
        if not isinstance(table.get("tuned", False), bool):
            document.mistake((*path, "tuned"), f"must be true or false, not {show(table['tuned'])}")
        missing = [key for key in ("where", "set") if not isinstance(table.get(key), dict) or not table[key]]
        meant = {probably(key, ("where", "set")) for key in odd} | document.damaged_in(path)
        if set(missing) - meant:
            document.mistake(path, f"needs {' and '.join(missing)} = {{ key = value }}")
        where = Where({}, whole=False)
        if "where" not in missing:
            where = _where(table["where"], (*path, "where"), sections, document)
        there = (*path, "set")
        values = validate(SetSection, table["set"] if "set" not in missing else {}, document, there)
        fields = values.given()
        if "seed" in fields:
            document.mistake((*there, "seed"), "the seed cannot be overridden; set init_seed, order_seed or split_seed")
        _check_names(fields, there, sections, document)
        layer = Layer("override", there, fields, broken=values.broken, tuned=table.get("tuned") is True)
        sections.overrides.append(Override(path, where, layer))


def _table(document: Document, key: str) -> tuple[KeyPath, dict[str, Any]]:
    """Returns a section that is one table, and where it stands; of [[run]] the first."""
    table = document.data.get(key, {})
    if isinstance(table, dict):
        return (key,), table
    if isinstance(table, list) and table and all(isinstance(item, dict) for item in table):
        document.mistake((key,), f"must be written as [{key}], with one bracket")
        return (key, 0), table[0]
    document.mistake((key,), f"must be a table, written as [{key}], not {show(table)}")
    return (key,), {}


def _tables(document: Document, key: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    tables = document.data.get(key, [])
    if isinstance(tables, dict):
        document.mistake((key,), f"must be written as [[{key}]], with two brackets")
        yield (key,), tables
    elif not isinstance(tables, list):
        document.mistake((key,), f"must be tables, each written as [[{key}]], not {show(tables)}")
    else:
        for index, table in enumerate(tables):
            if isinstance(table, dict):
                yield (key, index), table
            else:
                document.mistake((key, index), f"must be a table, written as [[{key}]], not {show(table)}")


def _where(table: Mapping[str, Any], path: KeyPath, sections: Sections, document: Document) -> Where:
    """Returns the conditions of an exclude, an override or the reference cell, validated; a list means any of its values."""
    before = len(document.problems)
    whole = not document.damaged_in(path)
    labels = ["", *dict.fromkeys(arm.label for arm in sections.arms)]
    where: dict[str, Any] = {}
    for name, given in table.items():
        here = (*path, name)
        if name not in _WHERE_KEYS:
            document.mistake(here, unknown_key(name, _WHERE_KEYS, path))
            continue
        wrong = len(document.problems)
        values = _seeds(given, here, document) if name in SEEDS and given != "seed" else given
        alternatives = [((*here, index), value) for index, value in enumerate(values)] if isinstance(values, list) else [(here, values)]
        if name == "arm":
            for there, label in alternatives:
                if label not in labels and _labels_known(sections, document):
                    document.mistake(there, unknown_name("arm", str(label), labels[1:]))
            known = all(label in labels for _, label in alternatives)
            checked, whole = [label for _, label in alternatives], whole and known
        else:
            known = True
            checked = [_condition(name, value, there, sections, document) for there, value in alternatives]
        if len(document.problems) == wrong and known:
            where[name] = checked
    return Where(where, whole=whole and len(document.problems) == before)


def _condition(name: str, value: Any, path: KeyPath, sections: Sections, document: Document) -> Any:
    """Returns the validated value of a field that is compared with."""
    found = validate_value(name, value, document, path)
    if found is not None:
        _check_names({name: found}, path, sections, document, at=path)
        for key, text in option_mistakes(name, found) if name in COMPONENTS else ():
            document.mistake((*path, key), text)
    return found


def _seeds(value: Any, path: KeyPath, document: Document) -> Any:
    """Returns the list that a range of seeds means; none of them after adding a mistake."""
    try:
        return expand_seeds(value)
    except ValueError as error:
        document.mistake(path, str(error))
        return []


def _labels_known(sections: Sections, document: Document) -> bool:
    """Returns whether the labels of all arms are known, so that another one is a mistake."""
    return document.whole and all(arm.label for arm in sections.arms)


def _check_names(fields: Mapping[str, Any], path: KeyPath, sections: Sections, document: Document, at: KeyPath | None = None) -> None:
    """Adds a mistake for every data set, model, optimizer, recipe, preset or regime that does not exist.

    Args:
        fields: of a table, each valid by itself.
        path: of the table.
        sections: with their regimes.
        document: that holds it.
        at: where the value stands, if not at its key below `path`.
    """
    presets = {preset for recipe in catalog.recipes().values() for preset in recipe.presets}
    known = {kind: catalog.REGISTRIES[kind]() for kind in (*COMPONENTS, "recipe")}
    for kind, names in {**known, "preset": presets, "regime": sections.regimes}.items():
        value = fields.get(kind)
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and name not in names and (kind != "regime" or document.whole):
            document.mistake(at or (*path, kind), unknown_name(kind, name, names))
