"""Views of the bench: what could be compared, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gapbench.console.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gapbench.bench import BenchReport, Case, Row

WIDE = 110
"""Columns of a terminal from which on speeds, rounds and the A/A spread have room."""


def print_bench(console: Console, report: BenchReport, output: Path) -> None:
    """Prints how fast the engine is beside its peers, one table a machine, then what was not measured."""
    for machine in dict.fromkeys(row.machine for row in report.rows):
        rows = [row for row in report.rows if row.machine == machine]
        console.print(_measured(machine, rows, wide=console.width >= WIDE))
        console.print()
    if any(row.spread is not None for row in report.rows):
        text = "ratios are ours to theirs, with a 95 % interval; no difference below the A/A spread is claimed"
        console.print(text, style="dim", highlight=False)
    for note in report.notes:
        console.print(f"warning: {escape(note)}", style="yellow", highlight=False)
    for reason in dict.fromkeys(missing.reason for missing in report.missing):
        names = ", ".join(missing.case for missing in report.missing if missing.reason == reason)
        console.print(f"not measured here ({escape(reason)}): {escape(names)}", style="dim", highlight=False)
    console.print(
        f"kept in {escape(str(output))}: timings.parquet, bench.md, bench.csv, bench.svg, bench.png", highlight=False, soft_wrap=True
    )


def print_bench_cases(console: Console, cases: Mapping[str, Case], reasons: Mapping[str, str]) -> None:
    """Prints every case, its goals, and why some cannot be measured here."""
    from gapbench.bench import goals_of

    for case in cases.values():
        console.print(Text(case.name, style="bold"), Text(case.summary), sep="  ")
        for goal in goals_of(case) or ("no goal set",):
            console.print(Padding(Text(goal, style="cyan"), (0, 0, 0, 4)))
        if case.name in reasons:
            console.print(Padding(Text(f"cannot be measured here: {reasons[case.name]}", style="dim"), (0, 0, 0, 4)))


def _measured(machine: str, rows: list[Row], *, wide: bool) -> Table:
    from gapbench.bench.tables import goal_column, ratio_text

    table = Table(title=escape(machine), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("case and sides")
    if wide:
        table.add_column("images/s", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("goal", justify="right", no_wrap=True)
    table.add_column("verdict")
    if wide:
        table.add_column("rounds", justify="right")
        table.add_column("A/A", justify="right", no_wrap=True)
    last = ""
    for row in rows:
        if row.case != last:
            table.add_row(Text(row.case if not wide else f"{row.case}, {count(row.threads, 'thread')}", style="bold"))
            last = row.case
        speeds = f"{row.side.examples_per_second:,.0f}" + (f" / {row.against.examples_per_second:,.0f}" if row.against else "")
        verdict = " ".join(filter(None, [row.verdict, "(loaded)" if row.loaded else ""]))
        spread = "" if row.spread is None else f"{100 * row.spread:.1f} %"
        ratio = [ratio_text(row.ratio, row.kind), goal_column(row), verdict]
        cells = [row.what, speeds, *ratio, str(row.rounds), spread] if wide else [row.what, *ratio]
        table.add_row(Padding(Text(cells[0]), (0, 0, 0, 2)), *(escape(cell) for cell in cells[1:]))
    return table
