"""What training, tuning and `report` end with: the arms with their verdict, side tables, files, and what is not ok."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gapbench.analysis import ArmRow, ArmsTable, SideTable
from gapbench.analysis.formats import ACCURACY, ARM, AT, COUNT, GAP, GAP_NATS, SHARE, TEST_LOSS, TRAIN_LOSS, VERDICT
from gapbench.analysis.verdict import CAUTIONS
from gapbench.console.status import print_failures, retry_advice
from gapbench.console.words import GUTTER, column_of, count, duration, fitting, fold, print_table, say, tell
from gapbench.core.events import FINAL, Outcome
from gapbench.report import ReportFiles
from gapbench.report.tuning import TuningFiles, tuning_notes, tuning_row

if TYPE_CHECKING:
    from gapbench.api import RunReport, Took, TuneReport

IMPORTANCE = (ARM, ACCURACY, GAP, COUNT, VERDICT, SHARE, TEST_LOSS, TRAIN_LOSS, AT)
"""Columns of the arms, those first that a narrow terminal keeps."""
ROWS, SENTENCES = 12, 6
"""Rows of the short table, and sentences of each side table below it, at most."""
LEFT = frozenset({ARM, VERDICT, AT, "cell", "regime", "optimum"})
"""Columns of words, which are aligned to the left."""


def print_report(console: Console, files: ReportFiles | TuningFiles, *, full: bool = False) -> None:
    """Prints what a report says, of runs or of the trials of a tuning, and where its files are.

    Args:
        console: where to.
        files: of the report.
        full: every column, sentence and note; else the answer, the table and what it depends on.
    """
    if isinstance(files, TuningFiles):
        _print_tuning(console, files)
        return
    if full:
        print_arms(console, files.arms)
        print_side_tables(console, files.side)
    else:
        print_answer(console, files.arms)
        for table in files.side:
            for sentence in table.sentences[:SENTENCES]:
                fold(console, f"- {sentence}")
    _print_files(console, files)


HEADINGS = {
    ARM: "arm",
    COUNT: "n ok",
    ACCURACY: "accuracy, %",
    TEST_LOSS: "test loss",
    GAP: "gap, pp",
    GAP_NATS: "gap, nats",
    VERDICT: "verdict",
    SHARE: "closed",
}
"""Columns of the short table with their headings; counts only where runs are missing, the loss only of panels that are compared by it."""


def print_answer(console: Console, arms: ArmsTable) -> None:
    """Prints what a reader in a hurry needs: the answer, one table of all panels, and at most three cautions."""
    several = len(arms.verdicts) > 1
    for verdict in arms.verdicts:
        fold(console, f"{verdict.panel.title}: {verdict.answer}" if several else verdict.answer, style="bold")
    left_out = {TEST_LOSS} if all(row.metric.name == "accuracy" for row in arms.rows) else set()
    left_out |= {COUNT} if all(row.cell.complete for row in arms.rows) else set()
    shown = tuple(name for name in HEADINGS if name in arms.short_columns and name not in left_out)
    headings = [HEADINGS[name] for name in shown]
    kept = arms.rows if len(arms.rows) <= ROWS else _weightiest(arms)
    rows = [dict(zip(headings, arms.cells(row, shown), strict=True)) for row in kept]
    widths = _widths(headings, rows, console.width)
    columns = [column_of(column, LEFT, width) for column, width in widths.items()]
    console.print()
    print_table(console, columns, [[row[column] for column in widths] for row in rows])
    if len(kept) < len(arms.rows):
        fold(console, f"(and {len(arms.rows) - len(kept)} more cells)", style="dim")
    console.print()
    cautions = dict.fromkeys(caution for verdict in arms.verdicts for caution in verdict.cautions)
    for caution in [*cautions][:CAUTIONS]:
        fold(console, f"- {caution}")


def _weightiest(arms: ArmsTable) -> list[ArmRow]:
    """Returns the rows of a long table that the answer is about: reference cells, then the largest batch as the recipe has it."""
    largest = {panel: max(row.cell.batch_size for row in arms.rows_of(panel)) for panel in arms.panels}

    def rank(row: ArmRow) -> tuple[bool, bool]:
        return row.reference is not row.cell, row.cell.batch_size != largest[row.panel] or "budget" in row.cell.change.beside

    chosen = set(sorted(range(len(arms.rows)), key=lambda position: rank(arms.rows[position]))[:ROWS])
    return [row for position, row in enumerate(arms.rows) if position in chosen]


def print_arms(console: Console, arms: ArmsTable) -> None:
    """Prints the arms table, as many columns as fit, then every sentence and the notes."""
    left_out: list[str] = []
    for panel in arms.panels:
        rows = [dict(zip(arms.short_columns, arms.cells(row, arms.short_columns), strict=True)) for row in arms.rows_of(panel)]
        widths = _widths(arms.short_columns, rows, console.width)
        left_out = [column for column in arms.short_columns if column not in widths]
        columns = [column_of(column, LEFT, width) for column, width in widths.items()]
        print_table(console, columns, [[row[column] for column in widths] for row in rows], title=panel.title)
        console.print()
    if left_out:
        fold(console, f"(no room for: {', '.join(left_out)}; all columns stand in tables/arms.md)", style="dim")
    for sentence in arms.verdict:
        fold(console, sentence)
    _print_notes(console, arms.notes)


def print_side_tables(console: Console, tables: Sequence[SideTable]) -> None:
    """Prints what else a suite shows: the words and notes of each side table. The tables themselves are too wide for a terminal."""
    for table in tables:
        console.print()
        fold(console, f"{table.title} (tables/{table.name}.md)", style="bold")
        for sentence in table.sentences:
            fold(console, sentence)
        _print_notes(console, table.notes)


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(Padding(Text(f"note: {note}", style="dim"), (0, 0, 0, 2)))


def _print_files(console: Console, files: ReportFiles) -> None:
    """Says where all else is."""
    results = files.tables[0].parent.parent
    side = "".join(f", {table.name}" for table in files.side)
    tell(console, f"page:    {results / 'report.html'}")
    tell(console, f"tables:  {results / 'tables'} (arms, runs{side}); every sentence: gapbench report {results} --verdict full")
    _print_figures(console, files.figures)


def print_took(console: Console, took: Took) -> None:
    """Says in one line how good the prediction was."""
    by = ", by a rough guess" if took.rough else ""
    fold(
        console,
        f"training took {duration(took.seconds)} of {duration(took.predicted_seconds)} predicted{by} "
        f"(device time {duration(took.device_seconds)} of {duration(took.predicted_device_seconds)})",
    )


def print_unfinished(console: Console, report: RunReport) -> None:
    """Says which runs are not ok and why, and what to do about them. After an interruption only what failed: the rest goes on."""
    counts = Counter(outcome for outcome in report.outcomes.values() if outcome is not Outcome.OK)
    if report.interrupted:
        counts = Counter({outcome: number for outcome, number in counts.items() if outcome in FINAL})
    if not counts:
        return
    text = ", ".join(f"{number} {outcome.value}" for outcome, number in counts.items())
    advice = retry_advice(report.failed)
    sentence = f"not ok: {text} of {count(len(report.outcomes), 'run')}{f'; {advice}' if advice else ''}"
    say(console, sentence, style="yellow")
    print_failures(console, report.failed)


def _print_tuning(console: Console, files: TuningFiles) -> None:
    """Prints what a tuning found, and where its figure is."""
    tuned = files.tuned
    rows = [tuning_row(tuned, cell) for cell in tuned.cells]
    columns = [column_of(column, LEFT) for column in rows[0]]
    print_table(console, columns, [[*row.values()] for row in rows], title=f"{tuned.suite}: tuning")
    console.print()
    _print_notes(console, tuning_notes(tuned))
    tell(console, f"tables:  {files.tables[0].parent}")
    _print_figures(console, files.figures)


def _print_figures(console: Console, figures: Sequence[Path]) -> None:
    if figures:
        tell(console, f"figures: {figures[0].parent} ({', '.join(dict.fromkeys(path.stem for path in figures))})")


def print_tuned_suite(console: Console, suite_file: Path) -> None:
    """Says what to do with the tuned suite."""
    tell(console, f"{suite_file}: the tuned suite; `gapbench run {suite_file}` trains it on the whole training set")


def print_untuned(console: Console, report: TuneReport) -> None:
    """Says why there is no tuned suite."""
    if report.failed:
        advice = retry_advice(report.failed)
        say(console, f"not ok: {count(len(report.failed), 'trial')}{f'; {advice}' if advice else ''}", style="yellow")
        print_failures(console, report.failed)
    elif not report.interrupted and report.suite_file is None:
        say(console, "no suite is written: a cell has no learning rate at which all trials end well", style="yellow")


def _widths(columns: Sequence[str], rows: Sequence[dict[str, str]], width: int) -> dict[str, int]:
    """Returns the columns that fit side by side, with their widths: all with whole headings, else the most important, headings folded."""
    cells = {column: max((len(row[column]) for row in rows), default=0) for column in columns}
    whole = {column: max(cells[column], len(column)) for column in columns}
    if sum(whole.values()) + GUTTER * (len(columns) - 1) <= width:
        return whole
    return fitting({column: max(cells[column], _folded(column)) for column in columns}, IMPORTANCE, width)


def _folded(heading: str) -> int:
    """Returns the width at which a heading needs two lines."""
    words = heading.split()
    return min((max(len(" ".join(words[:cut])), len(" ".join(words[cut:]))) for cut in range(1, len(words))), default=len(heading))
