"""Every mistake of a suite told at once: a sentence each, with its place, what is allowed and the nearest spelling.

An invalid value counts as unknown: reading it raises `Unknown`, and `attempt` skips the step that needed it. So nothing is told that only
follows from another mistake, and no mistake hides another. `Document.mistake` adds one with its place.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gapbench import catalog
from gapbench.catalog import show
from gapbench.core.errors import Problem
from gapbench.core.registry import did_you_mean, nearest, unknown_name
from gapbench.suite.schema import RunFields, RunSection, Section
from gapbench.suite.source import Document
from gapbench.suite.toml import KeyPath

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Unknown(Exception):  # noqa: N818 - nothing went wrong where it is raised
    """The value is unknown, because of a mistake that was told where it is written."""


def attempt(step: Callable[..., T], *values: Any) -> T | None:
    """Returns what a step returns, or None where one of its values, or one that it asks for, is unknown."""
    if any(value is None for value in values):
        return None
    try:
        return step(*values)
    except Unknown:
        return None


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
    """A section as far as it is valid."""

    value: M | None
    """With its valid fields; None where it is no table, or lacks a key that it needs."""
    broken: frozenset[str]
    """Invalid fields, whose values are unknown, and the field that a misspelled key was probably meant to be."""

    def given(self) -> dict[str, Any]:
        """Returns the valid fields that were given."""
        value = self.value
        return value.given() if isinstance(value, Section) else {}


def validate(model: type[M], data: Any, document: Document, path: KeyPath, fill: Mapping[str, Any] | None = None) -> Checked[M]:
    """Returns the valid part of a section and adds every mistake in the rest to the document.

    Args:
        model: what the section may hold.
        data: the section.
        document: that holds it.
        path: of the section.
        fill: values for required keys that are missing, so that the others are looked at.
    """
    damaged = document.damaged_in(path)
    try:
        return Checked(model.model_validate(data, strict=True), damaged)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    if not isinstance(data, dict):
        _tell(mistakes, document, path, 0, model)
        return Checked(None, damaged)
    misspelled = [str(details["loc"][0]) for details in mistakes if details["type"] == "extra_forbidden" and len(details["loc"]) == 1]
    meant = {probably(name, model.model_fields) for name in misspelled} - {None, *data}
    broken = {*damaged, *(name for name in meant if name), *(str(details["loc"][0]) for details in mistakes)}
    known = damaged | meant  # what is missing only because it is misspelled
    told = [details for details in mistakes if details["type"] != "missing" or len(details["loc"]) > 1 or details["loc"][0] not in known]
    _tell(told, document, path, 0, model)
    right = {name: value for name, value in data.items() if name not in broken}
    missing = {name: value for name, value in (fill or {}).items() if name not in right}
    try:
        return Checked(model.model_validate({**right, **missing}, strict=True), frozenset(broken))
    except ValidationError:
        return Checked(None, frozenset(broken))


def validate_value(name: str, value: Any, document: Document, path: KeyPath) -> Any:
    """Returns the validated value of one field of a run that stands at `path`, or None after adding its mistakes."""
    try:
        return getattr(RunFields.model_validate({name: value}, strict=True), name)
    except ValidationError as error:
        _tell(error.errors(include_url=False), document, path, 1, RunFields)
        return None


def probably(name: str, known: Iterable[str]) -> str | None:
    """Returns the key that a misspelled one was probably meant to be."""
    known = list(known)
    return SHORT_NAMES[name] if SHORT_NAMES.get(name) in known else nearest(name, known)


def _tell(mistakes: Iterable[ErrorDetails], document: Document, path: KeyPath, skip: int, model: type[BaseModel]) -> None:
    """Adds pydantic's errors; the first `skip` parts of their locations are already the end of `path`."""
    for details in mistakes:
        location = details["loc"]
        where: KeyPath = path + location[skip:]
        if details["type"] == "missing":
            document.mistake(where[:-1], f"needs the key {where[-1]}")
        elif details["type"] == "extra_forbidden":
            document.mistake(where, unknown_key(str(where[-1]), _known_keys(model, location[:-1]), path))
        else:
            document.mistake(where, _message(details))


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
        for kind in ("optimizer", "model", "dataset")
        for entry in catalog.REGISTRIES[kind]().values()
        if name in entry.parameters and kind in known
    ]
    if owners and len({kind for kind, _ in owners}) == 1:
        kind = owners[0][0]
        names = ", ".join(owner for _, owner in owners)
        return f"unknown key {show(name)}: it is an option of the {kind} ({names}), so write {kind} = {{ {name} = ... }}"
    return message


def option_mistakes(kind: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (option, message) for options of a condition that no component of a kind, or not the named one, can have."""
    registry = catalog.REGISTRIES[kind]()
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
        wrong = [entry.parameters[option].refusal(value) for entry in entries if option in entry.parameters]
        if all(wrong):
            yield option, wrong[0]


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


def in_order(problems: Iterable[Problem], document: Document) -> list[Problem]:
    """Returns the problems once each, file by file and line by line; what concerns a file as a whole comes before its lines."""
    files = [source.shown for source in document.sources]

    def position(problem: Problem) -> tuple[int, int]:
        for index, file in enumerate(files):
            found = re.match(rf"{re.escape(file)}(?::(\d+))?(?:: |$)", problem.place)
            if found:
                return index, int(found[1] or 0)
        return -1, 0

    return sorted(dict.fromkeys(problems), key=position)


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
