"""Parameters: the keyword options of a component, as data, so that a suite is checked without importing the component."""

from __future__ import annotations

import collections.abc
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import core_schema

from gapbench.core.errors import GapbenchError
from gapbench.core.registry import did_you_mean

ParameterType: TypeAlias = Literal["bool", "int", "float", "str", "list[int]", "list[float]", "list[str]"]

_WORDS: dict[str, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of texts",
}

_SCALARS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}


class Parameter(BaseModel):
    """One keyword option: its type, its default and what is allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    type: ParameterType
    default: JsonValue = None
    """None where `required`, or where the option may be left open."""
    required: bool = False
    choices: tuple[JsonValue, ...] = ()
    minimum: float | None = None
    """Smallest allowed value; of every element where the type is a list."""
    maximum: float | None = None
    multiple_of: int | None = Field(None, ge=2)
    """With `remainder`: whole numbers of the form multiple_of * n + remainder."""
    remainder: int = 0
    help: str = ""
    neutral: JsonValue = None
    """An option that equals its neutral value is left out of the identity of a run. Never changed once released; an
    option that is added later gets as neutral the value under which nothing changes."""

    def check(self, value: Any) -> JsonValue:
        """Returns the value in its canonical form (a whole number becomes a float where the type is float).

        Raises:
            ValueError: with a message that says what is allowed.
        """
        element = self.type.removeprefix("list[").removesuffix("]")
        if self.type.startswith("list["):
            if not isinstance(value, list | tuple):
                raise ValueError(self._wrong_type(value))
            return [self._check_one(item, element, value) for item in value]
        return self._check_one(value, element, value)

    def refusal(self, value: Any) -> str:
        """Returns why a value is not allowed; empty where it is."""
        try:
            self.check(value)
        except ValueError as error:
            return str(error)
        return ""

    def describe(self) -> str:
        """Returns what is allowed, in words: `a number, at least 0`."""
        if self.choices:
            return "one of " + ", ".join(show(choice) for choice in self.choices)
        parts = [_WORDS[self.type]]
        if self.minimum is not None:
            parts.append(f"at least {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"at most {self.maximum:g}")
        if self.multiple_of is not None:
            parts.append(f"of the form {self.multiple_of}n + {self.remainder}" if self.remainder else f"a multiple of {self.multiple_of}")
        return ", ".join(parts)

    def _check_one(self, value: Any, kind: str, whole: Any) -> JsonValue:
        checked: JsonValue = float(value) if kind == "float" and type(value) is int else value
        if type(checked) is not _SCALARS[kind]:  # exactly: True is no whole number here
            raise ValueError(self._wrong_type(whole))
        if self.choices and checked not in self.choices:
            near = did_you_mean(value, [c for c in self.choices if isinstance(c, str)]) if isinstance(value, str) else ""
            raise ValueError(f"must be {self.describe()}, not {show(value)}{near}")
        if isinstance(checked, int | float) and not isinstance(checked, bool):
            below = self.minimum is not None and not checked >= self.minimum  # written so that NaN is refused
            above = self.maximum is not None and not checked <= self.maximum
            uneven = self.multiple_of is not None and checked % self.multiple_of != self.remainder
            if below or above or uneven:
                raise ValueError(f"must be {self.describe()}, not {show(whole)}")
        return checked

    def _wrong_type(self, value: Any) -> str:
        return f"must be {self.describe()}, not {show(value)}"


def check_options(
    parameters: Mapping[str, Parameter], options: Mapping[str, Any], *, owner: str
) -> tuple[dict[str, JsonValue], list[tuple[str, str]]]:
    """Checks options against their schema and fills in the defaults.

    Args:
        parameters: the schema.
        options: what was given.
        owner: whose options these are, such as `model "mlp"`, for messages.

    Returns:
        All options, defaults included, in the order of the schema; and every mistake as (option, message).
    """
    resolved: dict[str, JsonValue] = {}
    problems: list[tuple[str, str]] = []
    for name, parameter in parameters.items():
        if name in options:
            try:
                resolved[name] = parameter.check(options[name])
            except ValueError as error:
                problems.append((name, str(error)))
        elif parameter.required:
            problems.append((name, f"{owner} needs the option {name}: {parameter.describe()}"))
        else:
            resolved[name] = parameter.default
    for name in options:
        if name not in parameters:
            known = ", ".join(sorted(parameters)) or "none"
            problems.append((name, f"{owner} has no option {name}{did_you_mean(name, parameters)}; its options: {known}"))
    return resolved, problems


def show(value: Any) -> str:
    """Returns a value as it stands in a TOML file; one that TOML does not have as Python writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{show_key(key)} = {show(item)}" for key, item in value.items()) + "}"
    return str(value)  # numbers, dates and times are written as they are read


def show_key(key: str) -> str:
    """Returns a key as it stands in a TOML file."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else show(key)


class WordOr:
    """A number, or a word in its place; for `Annotated`."""

    def __init__(self, *words: str, **number: Any) -> None:
        """`number` is its JSON Schema: `type` ("integer" or "number"), `minimum` or `exclusiveMinimum`, and `maximum`."""
        self.words = words
        self.number = number

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"enum": [*self.words]}, self.number]}

    def _check(self, value: Any) -> Any:
        whole = self.number["type"] == "integer"
        if value in self.words:
            return value
        if type(value) in ((int,) if whole else (int, float)) and self._is_within(value):
            return value if whole else float(value)
        words = ", ".join(f'"{word}"' for word in self.words)
        raise ValueError(f"must be {words} or a {'whole number' if whole else 'number'} {self._limits()}, not {show(value)}")

    def _is_within(self, value: float) -> bool:
        low = value > self.number["exclusiveMinimum"] if "exclusiveMinimum" in self.number else value >= self.number["minimum"]
        return low and math.isfinite(value) and value <= self.number.get("maximum", value)

    def _limits(self) -> str:
        number = self.number
        low = f"greater than {number['exclusiveMinimum']}" if "exclusiveMinimum" in number else f"of at least {number['minimum']}"
        return low + (f" and at most {number['maximum']}" if "maximum" in number else "")


# The schema of a component's options, read from its signature: annotated keyword-only parameters and their defaults.

_SCALAR_TYPES: dict[Any, ParameterType] = {bool: "bool", int: "int", float: "float", str: "str"}
_LISTS: dict[Any, ParameterType] = {int: "list[int]", float: "list[float]", str: "list[str]"}
_HINT = "annotate it with bool, int, float, str, Literal[...], or a list of numbers or texts"


def from_signature(component: Callable[..., Any], *, reserved: Sequence[str], owner: str) -> dict[str, Parameter]:
    """Returns the options of a function or class.

    Args:
        component: its signature is read.
        reserved: parameters that gapbench passes itself.
        owner: for messages, such as `model "tiny"`.

    Raises:
        GapbenchError: an option that is not keyword-only, or whose annotation is missing or not understood.
    """
    try:
        signature = inspect.signature(component, eval_str=True)
    except Exception as error:
        raise GapbenchError(f"{owner}: its annotations cannot be read: {type(error).__name__}: {error}") from error
    parameters = {}
    for position, (name, parameter) in enumerate(signature.parameters.items()):
        if name in reserved or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            if position < len(reserved):
                continue  # gapbench's own arguments may be called anything
            raise GapbenchError(f'{owner}: option "{name}" must be keyword-only: put it behind a bare * in the signature')
        parameters[name] = _parameter(name, parameter, owner)
    return parameters


def from_defaults(options: Mapping[str, Any], *, owner: str) -> dict[str, Parameter]:
    """Returns a schema whose types are those of the default values."""
    parameters = {}
    for name, default in options.items():
        kind = _SCALAR_TYPES.get(type(default))
        if isinstance(default, list | tuple) and default:
            kind = _LISTS.get(type(default[0]))
        if kind is None:
            raise GapbenchError(f'{owner}: default {default!r} of option "{name}" is neither a number, a text nor a list of these')
        parameters[name] = Parameter(type=kind, default=_plain(default))
    return parameters


def _parameter(name: str, parameter: inspect.Parameter, owner: str) -> Parameter:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        raise GapbenchError(f'{owner}: option "{name}" has no annotation; {_HINT}')
    required = parameter.default is inspect.Parameter.empty
    default = None if required else _plain(parameter.default)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        if len(members) == 1:  # T | None: may be left open
            annotation = members[0]
    if typing.get_origin(annotation) is Literal:
        choices = typing.get_args(annotation)
        kinds = {_SCALAR_TYPES.get(type(choice)) for choice in choices}
        kind = kinds.pop() if len(kinds) == 1 else None
    else:
        choices = ()
        kind = _kind(annotation)
    if kind is None:
        raise GapbenchError(f'{owner}: annotation {annotation!r} of option "{name}" is not understood; {_HINT}')
    schema = Parameter(type=kind, default=default, required=required, choices=choices)
    if default is not None:
        try:
            schema = schema.model_copy(update={"default": schema.check(default)})
        except ValueError as error:
            raise GapbenchError(f'{owner}: default of option "{name}" {error}') from error
    return schema


def _kind(annotation: Any) -> ParameterType | None:
    if annotation in _SCALAR_TYPES:
        return _SCALAR_TYPES[annotation]
    if typing.get_origin(annotation) in (list, tuple, collections.abc.Sequence):
        elements = set(typing.get_args(annotation)) - {...}
        if len(elements) == 1:
            return _LISTS.get(elements.pop())
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
