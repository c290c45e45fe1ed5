"""Turning pydantic's errors into problems: one sentence each, with place, allowed values and nearest spelling."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gapbench import catalog
from gapbench.core.errors import Problem
from gapbench.core.registry import did_you_mean, nearest, unknown_name
from gapbench.suite.locate import KeyPath
from gapbench.suite.schema import RunFields, RunSection, Section, show
from gapbench.suite.source import Document

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
