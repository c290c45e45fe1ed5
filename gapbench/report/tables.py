"""The tables as files: `arms.csv` and `runs.csv` for programs, `arms.md` for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis import ArmsTable, SideTable
from gapbench.analysis.curves import SKETCH
from gapbench.analysis.factorial import COLUMNS, Factorial, effect_notes, effect_rows
from gapbench.analysis.formats import ARM, VERDICT

if TYPE_CHECKING:
    import pandas as pd


def arms_markdown(suite: str, table: ArmsTable) -> str:
    """Returns `arms.md`: the verdict, a table per panel, notes."""
    parts = [f"# {suite}: arms", "## Verdict", "\n".join(f"- {sentence}" for sentence in table.verdict)]
    for panel in table.panels:
        rows = [table.cells(row) for row in table.rows_of(panel)]
        parts += [f"## {panel.title}", markdown_table(table.columns, rows)]
    if table.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in table.notes)]
    return "\n\n".join(parts) + "\n"


def side_markdown(suite: str, table: SideTable) -> str:
    """Returns a side table as Markdown: what it says, the table, notes."""
    parts = [f"# {suite}: {table.title}", "\n".join(f"- {sentence}" for sentence in table.sentences)]
    parts += [markdown_table(table.columns, table.rows, words=(table.columns[0],))]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in table.notes)]) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ()) -> str:
    """Returns a Markdown table whose columns line up also in plain text; numbers to the right, words to the left."""
    cells = [[*columns], *([text.replace("|", "\\|") for text in row] for row in rows)]
    widths = [max(len(row[position]) for row in cells) for position in range(len(columns))]
    left = {position for position, column in enumerate(columns) if column in (ARM, VERDICT, COLUMNS[0], *words)}

    def line(row: Sequence[str]) -> str:
        padded = (
            text.ljust(width) if position in left else text.rjust(width)
            for position, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [f":{'-' * (width - 1)}" if position in left else f"{'-' * (width - 1)}:" for position, width in enumerate(widths)]
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])])


def factorial_markdown(suite: str, found: Sequence[Factorial]) -> str:
    """Returns `factorial.md`: a table of effects per factorial, and notes."""
    parts = [f"# {suite}: effects"]
    for one in found:
        parts += [f"## {one.title}", markdown_table(COLUMNS, effect_rows(one)) if one.effects else f"No effects: {one.reason}."]
    notes = effect_notes(found)
    return "\n\n".join([*parts, *(["## Notes", "\n".join(f"- {note}" for note in notes)] if notes else [])]) + "\n"


def arms_csv(table: ArmsTable) -> str:
    """Returns `arms.csv`: tidy numbers, one row per cell."""
    return csv_text(table.frame())


def runs_csv(runs: pd.DataFrame) -> str:
    """Returns `runs.csv`: `runs.parquet` without the bits of the test examples."""
    return csv_text(runs.drop(columns="test_correct", errors="ignore"))


def curves_csv(curves: pd.DataFrame) -> str:
    """Returns `curves.csv`: `curves.parquet`, one row per value, without the sketches of displacements."""
    return csv_text(curves[curves["metric"] != SKETCH])


def csv_text(frame: pd.DataFrame) -> str:
    """Returns a frame as CSV, the same bytes on every system."""
    return str(frame.to_csv(index=False, lineterminator="\n"))
