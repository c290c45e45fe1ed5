"""The schema of a component's options, read from its signature: annotated keyword-only parameters and their defaults."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gapbench.catalog.parameters import Parameter, ParameterType
from gapbench.core.errors import GapbenchError

_SCALARS: dict[Any, ParameterType] = {bool: "bool", int: "int", float: "float", str: "str"}
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
        kind = _SCALARS.get(type(default))
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
        kinds = {_SCALARS.get(type(choice)) for choice in choices}
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
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if typing.get_origin(annotation) in (list, tuple, collections.abc.Sequence):
        elements = set(typing.get_args(annotation)) - {...}
        if len(elements) == 1:
            return _LISTS.get(elements.pop())
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
