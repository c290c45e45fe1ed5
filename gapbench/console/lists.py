"""Lists for people: what exists, what doctor and tests found, what was cleaned and merged, what analyses say, how fast the engine is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gapbench.console.words import count, plain_table, say, size, tell

if TYPE_CHECKING:
    from gapbench.api import Finding, Listed
    from gapbench.bench import BenchReport, Case, Row
    from gapbench.conformity import Check
    from gapbench.store import Leftover, Merged
    from gapbench.workloads.datasets import FileStatus


_STYLES = {"ok": "green", "note": "yellow", "bad": "red", "pass": "green", "fail": "red", "warning": "yellow", "does not apply": "dim"}
CHECK_STATES = ("pass", "fail", "warning", "does not apply")


def print_listing(console: Console, listed: Sequence[Listed]) -> None:
    """Prints what exists of one kind."""
    for item in listed:
        console.print(Text(item.name, style="bold"), Text(item.summary), sep="  ")
        if item.options:
            console.print(Padding(Text("\n".join(item.options), style="cyan"), (0, 0, 0, 4)))
        if item.source:
            console.print(Padding(Text(item.source, style="dim"), (0, 0, 0, 4)))


def print_findings(console: Console, findings: Iterable[Finding]) -> None:
    """Prints what doctor found, and how to mend it."""
    console.print(_states([(finding.state, finding.name, finding.text, finding.remedy) for finding in findings], pad_edge=True))


def _states(rows: Iterable[tuple[str, str, str, str]], *, pad_edge: bool) -> Table:
    """Returns a table of states, names and texts with their remedies."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=pad_edge)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for state, name, text, remedy in rows:
        table.add_row(Text(state, style=_STYLES[state]), escape(name), Text(f"{text}\n-> {remedy}" if remedy else text))
    return table


def print_data_files(console: Console, name: str, files: Sequence[FileStatus]) -> None:
    """Prints the state of a data set's files."""
    if not files:
        console.print(f"{name}: has no files of its own to check", highlight=False)
    for file in files:
        style = {"missing": "yellow", "corrupt": "red"}.get(file.status, "")
        expected = f" (checksum {file.found_md5}, should be {file.expected_md5})" if file.status == "corrupt" else ""
        tell(console, f"{file.status:8} {file.path}{expected}", style)


def print_leftovers(console: Console, leftovers: Sequence[Leftover]) -> None:
    """Prints what would be removed."""
    for leftover in leftovers:
        tell(console, f"{size(leftover.size_bytes):>10}  {leftover.what}: {leftover.path}")


def print_analysis(console: Console, title: str, sentences: Mapping[str, Sequence[str]]) -> None:
    """Prints the sentences of an analysis under their panels."""
    say(console, title, style="bold")
    for panel, texts in sentences.items():
        say(console, panel, style="italic")
        for text in texts:
            if console.is_terminal:
                console.print(Padding(Text(text), (0, 0, 0, 2)), highlight=False)
            else:
                console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)


MANY = 10
"""More conflicts than this are counted."""


def print_merged(console: Console, merged: Merged) -> None:
    """Prints which runs came from where, and where directories disagree."""
    sources = ", ".join(f"{number} from {path}" for path, number in merged.runs.items())
    tell(console, f"{merged.path}: {count(sum(merged.runs.values()), 'run')}: {sources}")
    if merged.identical:
        tell(console, f"{count(merged.identical, 'run')} with exactly equal numbers in more than one directory")
    if merged.grown:
        tell(console, "the directories asked for different runs: the plan is their union, and suite.toml says so")
    for conflict in merged.conflicts[:MANY]:
        found = "; ".join(f"{path}: {words}" for path, words in conflict.found.items())
        tell(console, f"not the same: {conflict.run_id}: {found}; kept that of {conflict.kept}", style="yellow")
    if len(merged.conflicts) > MANY:
        tell(console, f"not the same: {count(len(merged.conflicts) - MANY, 'more run')}", style="yellow")
    for run_id in merged.begin_anew:
        tell(console, f"begins anew: {run_id} (the rest of its stack came from another directory)", style="yellow")
    if merged.old_attempts:
        tell(console, f"{count(merged.old_attempts, 'old attempt')} stayed where they are", style="dim")
    tell(console, f"gapbench report {merged.path} writes its tables and figures")


def print_conformity(console: Console, checks: Sequence[Check]) -> None:
    """Prints the checks of every component, with the remedies, and how many failed."""
    for (kind, component), own in groupby(checks, lambda check: (check.kind, check.component)):
        console.print(f"{kind} [bold]{escape(component)}[/bold]", highlight=False)
        console.print(_states([(check.state, check.check, check.text, check.remedy) for check in own], pad_edge=False))
        console.print()
    numbers = {state: sum(check.state == state for check in checks) for state in CHECK_STATES}
    parts = [f"{count(numbers['fail'], 'check')} failed" if numbers["fail"] else "no check failed", f"{numbers['pass']} passed"]
    parts += [count(numbers["warning"], "warning")] if numbers["warning"] else []
    parts += [f"{numbers['does not apply']} did not apply"] if numbers["does not apply"] else []
    console.print(", ".join(parts), style="red" if numbers["fail"] else "", highlight=False)


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
    tell(console, f"kept in {output}: timings.parquet, bench.md, bench.csv, bench.svg, bench.png")


def print_bench_cases(console: Console, cases: Mapping[str, tuple[Case, str]]) -> None:
    """Prints every case, its goals, and why some cannot be measured here."""
    from gapbench.bench import goals_of

    for case, reason in cases.values():
        console.print(Text(case.name, style="bold"), Text(case.summary), sep="  ")
        for goal in goals_of(case) or ("no goal set",):
            console.print(Padding(Text(goal, style="cyan"), (0, 0, 0, 4)))
        if reason:
            console.print(Padding(Text(f"cannot be measured here: {reason}", style="dim"), (0, 0, 0, 4)))


def _measured(machine: str, rows: list[Row], *, wide: bool) -> Table:
    from gapbench.bench.summary import goal_column, ratio_text

    table = plain_table(machine)
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
