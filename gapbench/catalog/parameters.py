"""Parameters: the keyword options of a component, as data, so that a suite is checked without importing the component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

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

    def describe(self) -> str:
        """Returns what is allowed, in words: `a number, at least 0`."""
        if self.choices:
            return "one of " + ", ".join(_show(choice) for choice in self.choices)
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
            raise ValueError(f"must be {self.describe()}, not {_show(value)}{near}")
        if isinstance(checked, int | float) and not isinstance(checked, bool):
            below = self.minimum is not None and not checked >= self.minimum  # written so that NaN is refused
            above = self.maximum is not None and not checked <= self.maximum
            uneven = self.multiple_of is not None and checked % self.multiple_of != self.remainder
            if below or above or uneven:
                raise ValueError(f"must be {self.describe()}, not {_show(whole)}")
        return checked

    def _wrong_type(self, value: Any) -> str:
        return f"must be {self.describe()}, not {_show(value)}"


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


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
