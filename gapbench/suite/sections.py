"""From a merged document to validated sections: every value checked by itself, every name looked up."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from gapbench import catalog
from gapbench.catalog import RegimeEntry
from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import did_you_mean, nearest, unknown_name
from gapbench.suite.layers import Asked, Layer, Settings, Unknown, matches
from gapbench.suite.runspec import Component
from gapbench.suite.schema import (
    SEEDS,
    ArmSection,
    RegimeSection,
    ReportSection,
    RunFields,
    RunSection,
    Section,
    SetSection,
    SuiteSection,
    expand_seeds,
    show,
)
from gapbench.suite.source import COMPONENTS, SECTIONS, Document
from gapbench.suite.toml import KeyPath

# Turning pydantic's errors into problems: one sentence each, with place, allowed values and nearest spelling.

M = TypeVar("M", bound=BaseModel)

SHORT_NAMES = {
    "architecture": "model",
    "bs": "batch_size",
    "factor": "learning_rate_factor",
    "ghost": "ghost_batch_size",
    "lr": "learning_rate",
    "network": "model",
    "steps": "updates",
    "wd": "weight_decay",
}
"""What people call some fields elsewhere, too far from our names to be found by their spelling."""

LONG_LIST = 200
"""Characters of a list of known names above which it is written once and then referred to."""


@dataclass(frozen=True)
class Checked(Generic[M]):
    """A section as far as it is right."""

    value: M | None
    """With the fields that are right; None where it is no table, or lacks what it cannot be without."""
    broken: frozenset[str]
    """Fields that are mistaken, so that their values are unknown; with the nearest to a misspelled key, which was probably meant."""

    def given(self) -> dict[str, Any]:
        """Returns the fields that were given and are right."""
        value = self.value
        return value.given() if isinstance(value, Section) else {}


def validate(
    model: type[M], data: Any, document: Document, path: KeyPath, problems: list[Problem], fill: Mapping[str, Any] | None = None
) -> Checked[M]:
    """Returns what of a section is right, after adding all its problems.

    Args:
        model: what the section may hold.
        data: the section.
        document: for places.
        path: of the section.
        problems: what to add to.
        fill: values for required keys that are missing, so that the others are looked at.
    """
    damaged = document.damaged_in(path)
    try:
        return Checked(model.model_validate(data, strict=True), damaged)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    if not isinstance(data, dict):
        problems.extend(_problem(details, document, path, 0, model) for details in mistakes)
        return Checked(None, damaged)
    misspelled = [str(details["loc"][0]) for details in mistakes if details["type"] == "extra_forbidden" and len(details["loc"]) == 1]
    meant = {probably(name, model.model_fields) for name in misspelled} - {None, *data}
    broken = {*damaged, *(name for name in meant if name), *(str(details["loc"][0]) for details in mistakes)}
    known = damaged | meant  # what is missing only because it is misspelled
    told = [details for details in mistakes if details["type"] != "missing" or len(details["loc"]) > 1 or details["loc"][0] not in known]
    problems.extend(_problem(details, document, path, 0, model) for details in told)
    right = {name: value for name, value in data.items() if name not in broken}
    missing = {name: value for name, value in (fill or {}).items() if name not in right}
    try:
        return Checked(model.model_validate({**right, **missing}, strict=True), frozenset(broken))
    except ValidationError:
        return Checked(None, frozenset(broken))


def validate_value(name: str, value: Any, document: Document, path: KeyPath, problems: list[Problem]) -> Any:
    """Returns the validated value of one field of a run that stands at `path`, or None after adding its problems."""
    try:
        return getattr(RunFields.model_validate({name: value}, strict=True), name)
    except ValidationError as error:
        problems.extend(_problem(details, document, path, 1, RunFields) for details in error.errors(include_url=False))
        return None


def probably(name: str, known: Iterable[str]) -> str | None:
    """Returns the key that a misspelled one was probably meant to be."""
    known = list(known)
    return SHORT_NAMES[name] if SHORT_NAMES.get(name) in known else nearest(name, known)


def _problem(details: ErrorDetails, document: Document, path: KeyPath, skip: int, model: type[BaseModel]) -> Problem:
    """Returns one problem; the first `skip` parts of pydantic's location are already the end of `path`."""
    location = details["loc"]
    where: KeyPath = path + location[skip:]
    if details["type"] == "missing":
        return Problem(document.place(where[:-1]), f"needs the key {where[-1]}")
    if details["type"] == "extra_forbidden":
        return Problem(document.place(where), unknown_key(str(where[-1]), _known_keys(model, location[:-1]), path))
    return Problem(document.place(where), _message(details))


def _message(details: ErrorDetails) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    shown = show(value)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = [choice.strip("'") for choice in str(context["expected"]).replace(" or ", ", ").split(", ")]
        texts = "'" in str(context["expected"])
        listed = ", ".join(show(choice) if texts else choice for choice in choices)
        near = did_you_mean(value, choices) if texts and isinstance(value, str) else ""
        return f"must be {'one of ' if len(choices) > 1 else ''}{listed}, not {shown}{near}"
    if kind == "string_pattern_mismatch":
        return f"must consist of a-z, 0-9, '-', '_', '.', and begin with a letter or digit, not {shown}"
    limits = {"greater_than": "greater than", "greater_than_equal": "at least", "less_than": "less than", "less_than_equal": "at most"}
    if kind in limits:
        limit = next(iter(context.values()))
        return f"must be {limits[kind]} {limit:g}, not {shown}"
    wanted = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "string_type": "text in quotes",
        "string_too_short": "text that is not empty",
        "too_short": "a list that is not empty",
        "bool_type": "true or false",
        "list_type": "a list",
        "dict_type": "a table",
        "model_type": "a table",
        "model_attributes_type": "a table",
    }
    if kind in wanted:
        return f"must be {wanted[kind]}, not {shown}"
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, not {shown}"


def unknown_key(name: str, known: Collection[str], path: KeyPath) -> str:
    """Returns what to say of a key that a table at `path` cannot have: where it belongs, or the nearest spelling."""
    if not path and name in RunFields.model_fields:
        return f"unknown key {name} at the top of the file; it belongs to [run], [grid] or an [[arm]]"
    if name in RunSection.model_fields and name not in known:
        return f"{name} is one for all runs, because it changes none of their numbers; put it into [run]"
    if name == "updates" and path[:1] != ("regimes",):
        return 'a run trains for epochs, or as long as another: epochs = ... or budget = { kind = "updates" }; [[override]] may set updates'
    meant = SHORT_NAMES.get(name)
    message = unknown_name("key", name, known)
    if meant in known:
        message = f'unknown key "{name}" (did you mean "{meant}"?); known: {", ".join(sorted(known))}'
    owners = [
        (kind, entry.name)
        for kind, registry in _registries().items()
        for entry in registry.values()
        if name in entry.parameters and kind in known
    ]
    if owners and len({kind for kind, _ in owners}) == 1:
        kind = owners[0][0]
        names = ", ".join(owner for _, owner in owners)
        return f"unknown key {show(name)}: it is an option of the {kind} ({names}), so write {kind} = {{ {name} = ... }}"
    return message


def option_mistakes(kind: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (option, message) for options of a condition that no component of a kind, or not the named one, can have."""
    registry = _registries()[kind]
    name = table.get("name", "")
    entries = [registry[name]] if name in registry else [] if name else [*registry.values()]
    known = {option for entry in entries for option in entry.parameters}
    for option, value in table.items():
        if option == "name" or not entries:
            continue
        if option not in known:
            owner = f'{kind} "{name}" has no' if name else f"no {kind} has an"
            yield option, f"{owner} option {option}{did_you_mean(option, known)}; known: {', '.join(sorted(known))}"
            continue
        wrong = [text for entry in entries if option in entry.parameters for text in [_refused(entry.parameters[option], value)]]
        if all(wrong):
            yield option, wrong[0]


def _refused(parameter: catalog.Parameter, value: Any) -> str:
    """Returns why an option cannot have a value; empty where it can."""
    try:
        parameter.check(value)
    except ValueError as error:
        return str(error)
    return ""


def without_repeats(problems: Iterable[Problem]) -> list[Problem]:
    """Returns the problems with every long list of known names written out only once."""
    seen: dict[str, str] = {}
    shortened = []
    for problem in problems:
        message, mark, known = problem.message.partition("; known: ")
        if len(known) < LONG_LIST:
            shortened.append(problem)
        elif known in seen:
            shortened.append(Problem(problem.place, f"{message}{mark}as in {seen[known]}"))
        else:
            seen[known] = problem.place.split(": ")[0] or "the first of these"
            shortened.append(problem)
    return shortened


def _registries() -> Mapping[str, Mapping[str, Any]]:
    return {"optimizer": catalog.optimizers(), "model": catalog.models(), "dataset": catalog.datasets()}


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str, ...]:
    """Returns the keys that the table at a location below a model may have."""
    annotation: Any = model
    for part in location:
        annotation = _unwrap(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and part in annotation.model_fields:
            annotation = annotation.model_fields[str(part)].annotation
        elif typing.get_origin(annotation) is list:
            annotation = typing.get_args(annotation)[0]
    annotation = _unwrap(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return tuple(field.alias or name for name, field in annotation.model_fields.items())
    return ()


def _unwrap(annotation: Any) -> Any:
    while typing.get_origin(annotation) in (Annotated, typing.Union, types.UnionType):
        annotation = typing.get_args(annotation)[0]
    return annotation


# The probes of a suite: names and options checked, and whether those that look at fractions of the training are ever called.


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


# [tune] of a suite file: what it may hold, and what its keys say together.


def _seed_list(value: Any) -> Any:
    seeds = expand_seeds(value)
    if isinstance(seeds, list) and len(set(map(str, seeds))) < len(seeds):
        raise ValueError(f"must be different seeds, not {show(seeds)}")
    return seeds


SeedList = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1),
    BeforeValidator(_seed_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
                {"type": "string", "pattern": r"^\s*\d+\s*\.\.\s*\d+\s*$"},
            ]
        }
    ),
]


class TuneSection(Section):
    """[tune]: what `gapbench tune` searches, and how hard: the same for every cell."""

    search: Annotated[list[Literal["learning_rate", "momentum", "weight_decay", "warmup"]], Field(min_length=1)] = Field(
        default=["learning_rate"], description="What is searched; all but the learning rate among the values given here."
    )
    step: float = Field(2.0, ge=1.4, le=2.0, description="Factor between neighbouring learning rates, from about 2^(1/2) to 2.")
    trials: int = Field(7, ge=3, description="Learning rates that are tried at first, the same number for every cell.")
    extend_by: int = Field(2, ge=1, description="Learning rates that every cell gets more while one has its best at the edge.")
    extend_at_most: int = Field(8, ge=0, description="Learning rates that every cell may get more, all extensions together.")
    momentum: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(default_factory=list, description="Values to search.")
    weight_decay: list[Annotated[float, Field(ge=0.0)]] = Field(default_factory=list, description="Values to search.")
    warmup: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default_factory=list, description="Values to search: fractions of the updates."
    )
    holdout: float = Field(0.2, gt=0.0, lt=1.0, description="Fraction of the training set that trials are scored on and do not train on.")
    folds: int = Field(0, ge=1, description="Disjoint parts that are held out in turn; left out: 5 where the part is small, else 1.")
    seeds: SeedList = Field(default=[1000], description="Seeds of every trial.")
    check_seeds: SeedList = Field(default=[1001, 1002, 1003], description="Fresh seeds on which the best three points are tried again.")
    neighbours: bool = Field(False, description="Whether the tuned suite also has arms at the rates beside the best one.")


def read_tune(path: KeyPath, table: Mapping[str, Any], document: Document, problems: list[Problem]) -> TuneSection:
    """Returns the validated section, what is mistaken left out; mistakes are added to `problems`."""
    checked = validate(TuneSection, table, document, path, problems)
    tune = checked.value or TuneSection()
    if checked.broken or checked.value is None:
        return tune
    for name in ("momentum", "weight_decay", "warmup"):
        if name in tune.search and not getattr(tune, name):
            message = f"{name} is searched, so [tune] needs the values: {name} = [..., ...]"
            problems.append(Problem(document.place((*path, "search")), message))
        elif name in table and name not in tune.search:
            message = f'has no effect, because {name} is not searched; write search = [..., "{name}"], or remove it'
            problems.append(Problem(document.place((*path, name)), message))
        elif len(set(getattr(tune, name))) < len(getattr(tune, name)):
            problems.append(Problem(document.place((*path, name)), "must be different values"))
    of_rates = () if "learning_rate" in tune.search else ("step", "trials", "extend_by", "extend_at_most", "neighbours")
    idle = "has no effect, because learning_rate is not searched; remove it"
    problems.extend(Problem(document.place((*path, name)), idle) for name in of_rates if name in table)
    if len(set(tune.search)) < len(tune.search):
        problems.append(Problem(document.place((*path, "search")), "names something twice"))
    shared = sorted(set(tune.seeds) & set(tune.check_seeds))
    if shared:
        message = f"must be fresh seeds, and {', '.join(map(str, shared))} stand in seeds, too; choose others"
        problems.append(Problem(document.place((*path, "check_seeds")), message))
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
    tune: TuneSection = field(default_factory=TuneSection)


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
    sections.tune = read_tune(*_table(document, "tune", problems), document, problems)
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
        odd = [key for key in table if key not in _OVERRIDE_KEYS]
        problems.extend(Problem(document.place((*path, key)), unknown_key(key, _OVERRIDE_KEYS, path)) for key in odd)
        if not isinstance(table.get("tuned", False), bool):
            problems.append(Problem(document.place((*path, "tuned")), f"must be true or false, not {show(table['tuned'])}"))
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
        layer = Layer("override", there, fields, broken=values.broken, tuned=table.get("tuned") is True)
        sections.overrides.append(Override(path, where, layer))


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
