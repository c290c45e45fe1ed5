"""A comparison in a terminal: environment first, then every cell with its differences, then what only one side has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Column
from rich.text import Text

from gapbench.analysis.comparison import Change, ComparedCell, Comparison, outcome_lines, summary, values_by_change
from gapbench.analysis.formats import range_text, signed
from gapbench.console.words import column_of, fitting, fold, print_table

CELL, COUNT, MEANS, VERDICT = "cell", "n A, B", "A -> B, %", "verdict"
ACCURACY, TEST_LOSS, TRAIN_LOSS, SECONDS = "accuracy, pp", "test loss", "train loss", "train seconds"
COLUMNS = (CELL, COUNT, MEANS, ACCURACY, TEST_LOSS, TRAIN_LOSS, SECONDS, VERDICT)
IMPORTANCE = (CELL, ACCURACY, VERDICT, COUNT, MEANS, TEST_LOSS, TRAIN_LOSS, SECONDS)
"""Columns, those first that a narrow terminal keeps."""
WORDS = frozenset({CELL, VERDICT})
GAP = 2
WIDEST_WORDS = 26
"""Longer labels and verdicts are folded."""


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints what differs between two results."""
    for side, name, about in (("A", comparison.first, comparison.about[0]), ("B", comparison.second, comparison.about[1])):
        fold(console, f"{side}: {name} ({about})", style="bold")
    console.print()
    _print_environment(console, comparison)
    _print_values(console, comparison)
    for panel in dict.fromkeys(cell.panel for cell in comparison.cells):
        _print_panel(console, panel, [cell for cell in comparison.cells if cell.panel == panel])
    _print_outcomes(console, comparison.cells)
    for side, names in (("A", comparison.only_first), ("B", comparison.only_second)):
        if names:
            fold(console, f"only in {side}: {', '.join(names)}")
    for sentence in summary(comparison):
        fold(console, sentence)


def print_comparison_failures(console: Console, failures: Mapping[str, Sequence[str]]) -> None:
    """Says why a comparison fails, or that it does not."""
    for kind, found in failures.items():
        for text in found:
            fold(console, f"{kind}: {text}", style="red")
        if not found:
            fold(console, f"no {kind}{' difference' if kind == 'environment' else ''}")


def _print_environment(console: Console, comparison: Comparison) -> None:
    if not comparison.environment:
        return
    different = comparison.environment_differences
    if different:
        fold(console, "environment that differs", style="italic")
        columns = [Column(""), Column("A", overflow="fold"), Column("B", overflow="fold")]
        print_table(console, columns, [(line.name, line.first, line.second) for line in different], gap=GAP)
        console.print()
    same = [f"{line.name} {line.first}" for line in comparison.environment if not line.differs and line.first != "not recorded"]
    if same:
        fold(console, f"{'the same in both' if different else 'the same environment in both'}: {', '.join(same)}", style="dim")
        console.print()


def _print_values(console: Console, comparison: Comparison) -> None:
    lines = values_by_change(comparison)
    if lines:
        fold(console, "the same label stands for other values:", style="yellow")
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 2)))
        console.print()


def _print_panel(console: Console, title: str, cells: Sequence[ComparedCell]) -> None:
    rows = [_row(cell) for cell in cells]
    telling = [column for column in COLUMNS if column == CELL or any(row[column] for row in rows)]
    widths = _widths(telling, rows, console.width)
    fold(console, title, style="italic")
    columns = [column_of(column, WORDS, width) for column, width in widths.items()]
    print_table(console, columns, [[row[column] for column in widths] for row in rows], gap=GAP)
    left_out = [column for column in telling if column not in widths]
    if left_out:
        fold(console, f"(no room for: {', '.join(left_out)}; a wider terminal or --csv FILE has all)", style="dim")
    console.print()


def _print_outcomes(console: Console, cells: Sequence[ComparedCell]) -> None:
    for cell in cells:
        for line in outcome_lines(cell.outcomes):
            fold(console, f"{cell.label}: {line}", style="yellow")


def _row(cell: ComparedCell) -> dict[str, str]:
    accuracy = cell.accuracy
    means = (accuracy.first, accuracy.second) if accuracy else (None, None)
    identical = cell.verdict.startswith("identical")
    return {
        CELL: cell.label,
        COUNT: _side_counts(cell),
        MEANS: " -> ".join("none" if mean is None else f"{mean:.2f}" for mean in means) if any(means) else "",
        ACCURACY: "0" if identical and accuracy else _difference(accuracy, 2),
        TEST_LOSS: "0" if identical else _difference(cell.changes.get("test_loss")),
        TRAIN_LOSS: "0" if identical else _difference(cell.changes.get("train_loss")),
        SECONDS: _difference(cell.changes.get("train_seconds")),
        VERDICT: cell.verdict,
    }


def _side_counts(cell: ComparedCell) -> str:
    return ", ".join(str(ok) if ok == planned else f"{ok} of {planned}" for ok, planned in zip(cell.ok, cell.planned, strict=True))


def _difference(change: Change | None, digits: int | None = None) -> str:
    """Returns "−0.32 (−0.80 to 0.16)", as many digits as the interval's width makes worth reading."""
    if change is None or change.estimate is None:
        return ""
    scale = change.high - change.low if change.low is not None and change.high is not None else abs(change.estimate)
    places = _places(scale) if digits is None else digits
    text = signed(change.estimate, places)
    return text if change.low is None or change.high is None else f"{text} ({range_text(change.low, change.high, places)})"


def _places(scale: float) -> int:
    """Returns how many decimals show two significant digits of a scale, at most eight."""
    return 2 if scale <= 0 else min(8, max(0, 1 - math.floor(math.log10(scale))))


def _widths(columns: Sequence[str], rows: Sequence[Mapping[str, str]], width: int) -> dict[str, int]:
    """Returns the columns that fit side by side, the most important ones first, with their widths; words are folded, numbers are not."""
    needed = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    needed |= {column: min(needed[column], WIDEST_WORDS) for column in WORDS if column in needed}
    kept = fitting(needed, IMPORTANCE, width, GAP)
    room = width + GAP - sum(column + GAP for column in kept.values())
    if room < 0:  # a very narrow terminal: the label gives way
        kept[CELL] = max(6, kept[CELL] + room)
    return kept
