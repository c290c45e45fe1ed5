"""Turning pydantic's errors into problems: one sentence each, with place, allowed values and nearest spelling."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gapbench import catalog
from gapbench.core.errors import Problem
from gapbench.core.registry import did_you_mean, unknown_name
from gapbench.suite.locate import KeyPath
from gapbench.suite.schema import RunFields, show
from gapbench.suite.source import Document

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: Any, document: Document, path: KeyPath, problems: list[Problem]) -> M | None:
    """Returns the validated section, or None after adding all its problems."""
    try:
        return model.model_validate(data, strict=True)
    except ValidationError as error:
        problems.extend(_problem(details, document, path, 0, model) for details in error.errors(include_url=False))
        return None


def validate_value(name: str, value: Any, document: Document, path: KeyPath, problems: list[Problem]) -> Any:
    """Returns the validated value of one field of a run that stands at `path`, or None after adding its problems."""
    try:
        return getattr(RunFields.model_validate({name: value}, strict=True), name)
    except ValidationError as error:
        problems.extend(_problem(details, document, path, 1, RunFields) for details in error.errors(include_url=False))
        return None


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
        listed = ", ".join(show(choice) if "'" in str(context["expected"]) else choice for choice in choices)
        return f"must be one of {listed}, not {shown}{did_you_mean(value, choices) if isinstance(value, str) else ''}"
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
    message = unknown_name("key", name, known)
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
