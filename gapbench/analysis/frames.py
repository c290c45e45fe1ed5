"""Analyses as sentences and tidy frames; of a frame each column is declared once: its name, and where its value lies."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, str]
"""By name of a column: the path to its value, such as "curve.fit.residual". It begins with the name of a thing; None ends it early."""
Row = Mapping[str, object]
"""The things that a row is about, by the names that paths begin with."""


Parts = TypeVar("Parts")


@dataclass(frozen=True, eq=False)
class Study(Generic[Parts]):
    """The analysis of a suite: what was found, in sentences and as frames."""

    suite: str
    parts: Parts
    """What was found, for figures."""
    sentences: Mapping[str, list[str]]
    """What can be concluded, each with its interval, or "not separated"; by panel, or by what else the analysis tells apart."""
    frames: Mapping[str, pd.DataFrame]
    """The numbers as tidy frames, by name."""


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Returns the values of each key, keys and values in the order in which they first come."""
    found: dict[Key, list[Value]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def attributes(thing: object | None, *names: str, prefix: str = "") -> dict[str, Any]:
    """Returns attributes of a thing as columns, their names after a prefix; None where there is no thing, and for empty texts."""
    return {f"{prefix}{name}": None if (value := getattr(thing, name, None)) == "" else value for name in names}


def named(*names: str, of: str = "") -> Columns:
    """Returns columns of the names of their values: attributes of what lies at the path `of`, or else things of the row."""
    return {name: f"{of}.{name}" if of else name for name in names}


def with_bounds(name: str, path: str, value: str = "value") -> Columns:
    """Returns three columns, of a number and of its bounds.

    Args:
        name: of the first column.
        path: to what has the interval.
        value: what the number itself is called there.
    """
    return {name: f"{path}.{value}", f"{name}_low": f"{path}.low", f"{name}_high": f"{path}.high"}


def records(columns: Columns, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Returns the rows as values by column."""
    return [{name: _value(row, path) for name, path in columns.items()} for row in rows]


def tidy(columns: Columns, rows: Iterable[Row]) -> pd.DataFrame:
    """Returns the frame of some rows; one without rows has its columns, too."""
    import pandas as pd

    return pd.DataFrame(records(columns, rows), columns=list(columns))


def _value(row: Row, path: str) -> Any:
    thing, *attributes = path.split(".")
    found = row[thing]
    for name in attributes:
        found = None if found is None else getattr(found, name)
    return found
