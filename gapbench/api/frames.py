"""Lists of results as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def to_frame(things: Iterable[Any]) -> pd.DataFrame:
    """Returns what `listing`, `doctor`, `verify_dataset`, `find_leftovers` and others return as lists, one row a thing.

    Columns are the fields of the things; a column whose values are whole numbers stays whole where some are missing.
    """
    import pandas as pd

    rows = []
    for thing in things:
        if not is_dataclass(thing) or isinstance(thing, type):
            raise TypeError(f"only what the functions of gapbench.api return becomes a frame, not {type(thing).__name__}")
        rows.append({field.name: getattr(thing, field.name) for field in fields(thing)})
    frame = pd.DataFrame(rows)
    for name in frame.columns:
        known = [row[name] for row in rows if row[name] is not None]
        if known and len(known) < len(rows) and all(type(value) is int for value in known):
            frame[name] = frame[name].astype("Int64")
    return frame


def as_html(title: str, frame: pd.DataFrame, notes: Iterable[str] = ()) -> str:
    """Returns a table under its title, with notes below, as a notebook shows it."""
    table = frame.to_html(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
    return "".join([f"<p>{escape(title)}</p>", table, *(f"<p>{escape(note)}</p>" for note in notes)])
