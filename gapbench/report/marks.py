"""What a drawn artist stands for: the cells that it belongs to and what it says when pointed at. `report.html` reads this back.

    mark(line, cell)                                # a curve: each of its points says x and y
    mark(dots, cell, texts=["LB, seed 0: 96.95 %"]) # one text for each point
    mark(band, cell, texts=())                      # belongs to the cell, says nothing

The SVG files carry it as group ids, such as `cell-LB_2b_LR.3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure


CELL, ENTRY = "cell-", "entry-"
"""Starts of group ids: what goes when any of its cells does, and what goes with the last of them."""

CAPTION = "caption"
"""Group id of the text below a figure, which a page sets as text of its own."""

_SEPARATOR = ".."
_NUMBER = re.compile(r"(?<!\.)\.\d+$")


@dataclass(frozen=True, eq=False)
class Mark:
    """What an artist stands for."""

    cells: tuple[str, ...]
    """Names; more than one for an entry of a legend, or for a line that joins two cells."""
    texts: tuple[str, ...] | None
    """One for each of its points; None: made from the axes' formatters; empty: its points say nothing."""
    low: npt.NDArray[np.float64] | None = None
    """Lower end of the interval at each point, in data units."""
    high: npt.NDArray[np.float64] | None = None


_marks: WeakKeyDictionary[Any, Mark] = WeakKeyDictionary()


def mark(
    artist: Artist,
    *cells: Cell,
    texts: Iterable[str] | None = None,
    low: npt.NDArray[np.float64] | None = None,
    high: npt.NDArray[np.float64] | None = None,
) -> None:
    """Notes that an artist belongs to a cell, or joins several.

    Args:
        artist: anything drawn.
        cells: what it shows.
        texts: what its points say, one each; None: x and y by the axes' `fmt_xdata` and `fmt_ydata`.
        low: lower ends of an interval at each point.
        high: upper ends.
    """
    _note(artist, Mark(tuple(cell.name for cell in cells), None if texts is None else tuple(texts), low, high), CELL)


def mark_bars(bars: ErrorbarContainer, cell: Cell, text: str) -> None:
    """Notes that a mean with its interval belongs to a cell; the mean says `text`."""
    mean, caps, lines = bars.lines
    for artist in (*caps, *lines):
        mark(artist, cell, texts=())
    if mean is not None:
        mark(mean, cell, texts=[f"{cell.name}: {text}"])


def mark_entry(artists: Iterable[Artist], cells: Iterable[str]) -> None:
    """Notes that artists (handle and text of a legend) stand for all of these cells, by name."""
    names = tuple(dict.fromkeys(cells))
    for artist in artists if names else ():
        _note(artist, Mark(names, ()), ENTRY)


def mark_of(artist: Artist) -> Mark | None:
    """Returns what was noted."""
    return _marks.get(artist)


def number_marks(figure: Figure) -> None:
    """Makes the group ids of a figure unique, as ids of an SVG file must be."""
    marked = [artist for artist in figure.findobj() if str(artist.get_gid() or "").startswith((CELL, ENTRY))]
    for number, artist in enumerate(marked):
        artist.set_gid(f"{_NUMBER.sub('', str(artist.get_gid()))}.{number}")


def cells_of_id(group_id: str) -> tuple[str, ...]:
    """Returns the names of the cells that a group id stands for; none where it is another id."""
    start = next((start for start in (CELL, ENTRY) if group_id.startswith(start)), None)
    if start is None:
        return ()
    return tuple(_unescaped(part) for part in _NUMBER.sub("", group_id.removeprefix(start)).split(_SEPARATOR))


def _note(artist: Artist, found: Mark, start: str) -> None:
    _marks[artist] = found
    artist.set_gid(start + _SEPARATOR.join(map(_escaped, found.cells)))


def _escaped(name: str) -> str:
    """Writes a name with letters, digits and hyphens only; any other character as its code between underscores."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):x}_", name)


def _unescaped(text: str) -> str:
    return re.sub(r"_([0-9a-f]+)_", lambda found: chr(int(found[1], 16)), text)
