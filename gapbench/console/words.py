"""What all views share: the consoles, sentences and paths on them, short texts for durations, counts, sizes and rates, plain tables."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from gapbench.catalog.entries import Metric

T = TypeVar("T")

FILE_WIDTH = 160
"""Columns of a file or a pipe, where there is room for a whole table."""

GUTTER = 3
"""Blanks between columns: the padding, and the place of a rule."""


class LastingConsole(Console):
    """A console whose reader may go away, as in `2>&1 | head`: then nothing is printed any more, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program."""
        self.quiet = True


def out() -> Console:
    """Returns the console of results: stdout."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_WIDTH)


def err() -> Console:
    """Returns the console of progress and errors: stderr. Training outlives its reader."""
    return LastingConsole(file=sys.stderr)


def duration(seconds: float | None) -> str:
    """Returns "8 s", "3 min 20 s", "2 h 05 min", "4 d 3 h"; an empty text for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else "< 1 s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def clock(seconds: float | None) -> str:
    """Returns "0:08", "3:20", "2:05:00": for columns that change while one looks; "-:--" for None."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(number: int, one: str, many: str = "") -> str:
    """Returns "1 run", "64 runs"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def numbers(values: Iterable[int]) -> str:
    """Returns "0", "0, 2", "0 to 3, 7"."""
    ordered = sorted(set(values))
    parts = []
    for _, group in itertools.groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]):
        members = [value for _, value in group]
        parts += [str(value) for value in members] if len(members) < 3 else [f"{members[0]} to {members[-1]}"]
    return ", ".join(parts)


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Returns items that are alike together, in the order of the first of each."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def size(size_bytes: float) -> str:
    """Returns "512 B", "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def mebibytes(mib: float | None) -> str:
    """Returns "350 MiB", "1.2 GiB"; "?" for None."""
    return "?" if mib is None else size(mib * (1 << 20)) if mib >= 1024 else f"{mib:.0f} MiB"


def rate(per_second: float) -> str:
    """Returns "950/s", "12.3k/s", "1.20M/s"."""
    if per_second < 1000:
        return f"{per_second:.0f}/s"
    return f"{per_second / 1e3:.1f}k/s" if per_second < 1e6 else f"{per_second / 1e6:.2f}M/s"


def percent(fraction: float | None) -> str:
    """Returns "97.8 %"; an empty text for None."""
    return "" if fraction is None else f"{100 * fraction:.1f} %"


def metric_text(metric: Metric | None, value: float | None) -> str:
    """Returns "97.8 %" or "0.1234 nats"; an empty text where there is none."""
    if metric is None or value is None:
        return ""
    shown = metric.shown(value)
    return f"{shown:.4g} {metric.unit}" if metric.decimals is None else f"{shown:.1f} {metric.unit}"


def say(console: Console, text: Text | str, style: str = "", width: int | None = None) -> None:
    """Prints a sentence, in a terminal folded at words, or a text of `unfolded` as it is.

    Args:
        console: to print on.
        text: is taken literally, brackets included.
        style: of a plain string.
        width: of the terminal, in characters, where the console may not know it.
    """
    text = Text(text, style=style) if isinstance(text, str) else text
    if text.no_wrap or not console.is_terminal:
        console.print(text, highlight=False, soft_wrap=True)
    else:
        console.print(text, highlight=False, width=width)


def fold(console: Console, text: str, style: str = "") -> None:
    """Prints a sentence of results, which is folded at words also in a file."""
    console.print(Text(text, style=style))


def tell(console: Console, text: str, style: str = "") -> None:
    """Prints a line with paths or commands, which are never folded: they can be copied in one piece."""
    say(console, unfolded(text, style))


def unfolded(text: str, style: str = "") -> Text:
    """Returns a text that stays one line, whatever the terminal's width."""
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def place(path: Path) -> str:
    """Returns a path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def print_table(
    console: Console, columns: Iterable[Column], rows: Iterable[Sequence[RenderableType]], *, title: str = "", gap: int = GUTTER
) -> None:
    """Prints a table in the one style of all tables. Texts of cells are taken literally."""
    padding = (0, gap - 1, 0, 0)
    table = Table(
        *columns, title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False
    )
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def column_of(heading: str, words: Collection[str], width: int | None = None) -> Column:
    """Returns a column whose texts are folded: aligned to the left where it is one of those of words, else to the right."""
    return Column(heading, justify="left" if heading in words else "right", overflow="fold", width=width)


def slots_text(devices: Sequence[str], slots: int, threads: int) -> str:
    """Returns "2 slots with 1 thread"; on GPUs "2 slots"."""
    return f"{count(slots, 'slot')} with {count(threads, 'thread')}" if tuple(devices) == ("cpu",) else count(slots, "slot")


def fitting(needed: Mapping[str, int], importance: Sequence[str], width: int, gap: int = GUTTER) -> dict[str, int]:
    """Returns the columns that fit side by side, with their widths: the most important ones, three at least.

    Args:
        needed: width of every column, in characters.
        importance: of columns, the most important first; others come last.
        width: of all together.
        gap: blanks between columns.
    """
    rank = {column: place for place, column in enumerate(importance)}
    kept: set[str] = set()
    room = width + gap
    for column in sorted(needed, key=lambda column: rank.get(column, len(rank))):
        if len(kept) < 3 or needed[column] + gap <= room:
            kept.add(column)
            room -= needed[column] + gap
    return {column: width for column, width in needed.items() if column in kept}
