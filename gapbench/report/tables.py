"""The tables as files: `arms.csv` and `runs.csv` for programs, `arms.md` for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.analysis import ArmsTable, SideTable
from gapbench.analysis.curves import SKETCH
from gapbench.analysis.factorial import COLUMNS, Factorial, effect_notes, effect_rows
from gapbench.analysis.formats import ARM, VERDICT
from gapbench.store.tables import LONG_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_CODE = re.compile(r"(`gapbench [^`]*`)")
_MARKUP = re.compile(
    r"""(?x) [*|$~`]
    | \\ (?= [!-/:-@\[-`{-~] )       # would escape what follows
    | (?<!\w) _ | _ (?!\w)           # within a word it is no emphasis
    | < (?= [a-zA-Z/!?] )            # begins a tag
    | & (?= \#?\w+; )                # begins an entity
    | (?<= \] ) [(:\[] | ! (?= \[ )   # makes a link or an image
    | ^ (?: [#+>-] | \d+ [.)] ) (?= \s )   # begins a heading, a list or a quotation
    """
)


@dataclass(frozen=True, repr=False)
class WrittenFiles:
    """The files of a report."""

    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    """Each figure as .svg, then as .png."""

    def __repr__(self) -> str:
        place = str(self.tables[0].parent.parent)
        return f"{type(self).__name__}({len(self.tables)} tables, {len(self.figures)} figure files in {place!r})"


def arms_markdown(suite: str, table: ArmsTable) -> str:
    """Returns `arms.md`: the verdict, a table per panel, notes."""
    parts = [f"# {suite}: arms", "## Verdict", listing(table.verdict)]
    for panel in table.panels:
        rows = [table.cells(row) for row in table.rows_of(panel)]
        parts += [f"## {markdown(panel.title)}", markdown_table(table.columns, rows)]
    return "\n\n".join([*parts, *_notes(table.notes)]) + "\n"


def side_markdown(suite: str, table: SideTable) -> str:
    """Returns a side table as Markdown: what it says, the table, notes."""
    numbers = markdown_table(table.columns, table.rows, words=(table.columns[0],))
    return "\n\n".join([f"# {suite}: {markdown(table.title)}", listing(table.sentences), numbers, listing(table.notes)]) + "\n"


def listing(sentences: Iterable[str]) -> str:
    """Returns sentences as a list in Markdown."""
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences)


def markdown(text: str) -> str:
    """Returns a text that Markdown shows as it stands, on one line; what we write as code, such as `gapbench tune`, stays code."""
    parts = _CODE.split(" ".join(text.splitlines()))
    return "".join(part if position % 2 else _MARKUP.sub(_escaped, part) for position, part in enumerate(parts))


def _notes(notes: Sequence[str]) -> list[str]:
    return ["## Notes", listing(notes)] if notes else []


def _escaped(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}\\{found[0][-1]}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ()) -> str:
    """Returns a Markdown table whose columns line up also in plain text; numbers to the right, words to the left."""
    padded = []
    for column, *texts in zip(columns, *([markdown(text) for text in row] for row in rows), strict=True):
        left = column in (ARM, VERDICT, COLUMNS[0], *words)
        width = max(map(len, [column, *texts]))
        rule = f":{'-' * (width - 1)}" if left else f"{'-' * (width - 1)}:"
        padded.append([text.ljust(width) if left else text.rjust(width) for text in (column, rule, *texts)])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*padded, strict=True))


def factorial_markdown(suite: str, found: Sequence[Factorial]) -> str:
    """Returns `factorial.md`: a table of effects per factorial, and notes."""
    parts = [f"# {suite}: effects"]
    for one in found:
        rows = markdown_table(COLUMNS, effect_rows(one)) if one.effects else markdown(f"No effects: {one.reason}.")
        parts += [f"## {markdown(one.title)}", rows]
    return "\n\n".join([*parts, *_notes(effect_notes(found))]) + "\n"


def runs_csv(runs: pd.DataFrame) -> str:
    """Returns `runs.csv`: `runs.parquet` without the bits of the test examples."""
    return csv_text(runs.drop(columns=[*LONG_COLUMNS], errors="ignore"))


def curves_csv(curves: pd.DataFrame) -> str:
    """Returns `curves.csv`: `curves.parquet`, one row per value, without the sketches of displacements."""
    return csv_text(curves[curves["metric"] != SKETCH])


def csv_text(frame: pd.DataFrame) -> str:
    """Returns a frame as CSV, the same bytes on every system."""
    return str(frame.to_csv(index=False, lineterminator="\n"))
