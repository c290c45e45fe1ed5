"""A table for the live view that fits any width: whole columns go, the least important first, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = 2

TITLE_WIDTH = 14
"""Columns of the terminal that the first column keeps, where it needs them, before another column may stand beside it."""


@dataclass(frozen=True)
class Column:
    """A right-aligned column of numbers."""

    heading: str
    cells: Sequence[str]
    importance: int
    """The column with the lowest goes first."""
    instead: str = ""
    """Heading of a column that this one stands in for: it is shown only where that one is not."""

    @property
    def width(self) -> int:
        """In characters."""
        return max(cell_len(text) for text in (self.heading, *self.cells))


def fitting(titles: Sequence[str], columns: Sequence[Column], width: int, keep: int = TITLE_WIDTH) -> list[Column]:
    """Returns the columns that fit beside the titles, of which so much is kept."""
    room = width - min(max(map(cell_len, titles), default=0), keep)
    kept: list[Column] = []
    for column in sorted(columns, key=lambda column: -column.importance):
        if column.instead and any(other.heading == column.instead for other in kept):
            continue
        if column.width + GAP <= room:
            kept.append(column)
            room -= column.width + GAP
    return [column for column in columns if column in kept]


def table_lines(
    heading: str, titles: Sequence[str], columns: Sequence[Column], width: int, *, header: bool = True, keep: int = TITLE_WIDTH
) -> list[Text]:
    """Returns the lines of a table; titles that are too long are cut, and end in an ellipsis."""
    kept = fitting((heading, *titles), columns, width, keep)
    room = max(1, width - sum(column.width + GAP for column in kept))
    first = min(room, max(cell_len(text) for text in (heading, *titles)))
    lines = [Text(_row(heading, [column.heading for column in kept], kept, first), style="dim")] if header else []
    return lines + [Text(_row(title, [column.cells[row] for column in kept], kept, first)) for row, title in enumerate(titles)]


def _row(title: str, cells: Sequence[str], columns: Sequence[Column], first: int) -> str:
    start = set_cell_size(title, first) if cell_len(title) <= first else set_cell_size(title, first - 1) + "…"
    return start + "".join(" " * (GAP + column.width - cell_len(text)) + text for column, text in zip(columns, cells, strict=True))
