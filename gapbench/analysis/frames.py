"""Tidy frames whose columns are declared once: a name, and where its value lies in the things that a row is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, str]
"""By name of a column: the path to its value, such as "curve.fit.residual". It begins with the name of a thing; None ends it early."""
Row = Mapping[str, object]
"""The things that a row is about, by the names that paths begin with."""


def named(*names: str) -> Columns:
    """Returns columns whose values stand in the row under their own names."""
    return dict(zip(names, names, strict=True))


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
