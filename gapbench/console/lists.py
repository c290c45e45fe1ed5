"""Lists for people: what exists, what doctor and tests found, what was cleaned and merged, what analyses say, how fast the engine is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from gapbench.console.words import count, fold, print_table, say, size, tell

if TYPE_CHECKING:
    from gapbench.api import Finding, Listed
    from gapbench.bench import BenchReport, Case, Row
    from gapbench.conformity import Check
    from gapbench.store import Leftover, Merged
    from gapbench.workloads.datasets import FileStatus


_STYLES = {"ok": "green", "note": "yellow", "bad": "red", "pass": "green", "fail": "red", "warning": "yellow", "does not apply": "dim"}


def print_listing(console: Console, listed: Sequence[Listed]) -> None:
    """Prints what exists of one kind."""
    for item in listed:
        _print_entry(console, item.name, item.summary, item.options, item.source)


def _print_entry(console: Console, name: str, summary: str, details: Sequence[str], remark: str) -> None:
    """Prints a name with its summary, and below it what else there is to say."""
    console.print(Text(name, style="bold"), Text(summary), sep="  ")
    for text, style in (("\n".join(details), "cyan"), (remark, "dim")):
        if text:
            console.print(Padding(Text(text, style=style), (0, 0, 0, 4)))


def print_findings(console: Console, findings: Iterable[Finding]) -> None:
    """Prints what doctor found, and how to mend it."""
    _print_states(console, [(finding.state, finding.name, finding.text, finding.remedy) for finding in findings], pad_edge=True)


def _print_states(console: Console, rows: Iterable[tuple[str, str, str, str]], *, pad_edge: bool) -> None:
    """Prints states, names and texts with their remedies."""
    columns = Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold")
    table = Table(*columns, box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=pad_edge)
    for state, name, text, remedy in rows:
        table.add_row(Text(state, style=_STYLES[state]), Text(name), Text(f"{text}\n-> {remedy}" if remedy else text))
    console.print(table)


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
    if merged.left:
        here = merged.path.parent if merged.path.name == merged.suite else None
        rename = "" if here is not None else f"rename it to {merged.suite}, then "
        where = f"--results {merged.path.parent}"
        tell(console, f"{count(merged.left, 'run')} left: {rename}`gapbench run` with the suite file and {where} trains them")


def print_conformity(console: Console, checks: Sequence[Check]) -> None:
    """Prints the checks of every component, with the remedies, and how many failed."""
    for (kind, component), own in groupby(checks, lambda check: (check.kind, check.component)):
        console.print(f"{kind} [bold]{escape(component)}[/bold]", highlight=False)
        _print_states(console, [(check.state, check.check, check.text, check.remedy) for check in own], pad_edge=False)
        console.print()
    numbers = Counter(check.state for check in checks)
    parts = [f"{count(numbers['fail'], 'check')} failed" if numbers["fail"] else "no check failed", f"{numbers['pass']} passed"]
    parts += [count(numbers["warning"], "warning")] if numbers["warning"] else []
    parts += [f"{numbers['does not apply']} did not apply"] if numbers["does not apply"] else []
    fold(console, ", ".join(parts), style="red" if numbers["fail"] else "")


WIDE = 110
"""Columns of a terminal from which on speeds, rounds and the A/A spread have room."""


def print_bench(console: Console, report: BenchReport, output: Path) -> None:
    """Prints how fast the engine is beside its peers, one table a machine, then what was not measured."""
    for machine in dict.fromkeys(row.machine for row in report.rows):
        rows = [row for row in report.rows if row.machine == machine]
        _print_measured(console, machine, rows)
    if any(row.spread is not None for row in report.rows):
        fold(console, "ratios are ours to theirs, with a 95 % interval; no difference below the A/A spread is claimed", style="dim")
    for note in report.notes:
        fold(console, f"warning: {note}", style="yellow")
    for reason in dict.fromkeys(missing.reason for missing in report.missing):
        names = ", ".join(missing.case for missing in report.missing if missing.reason == reason)
        fold(console, f"not measured here ({reason}): {names}", style="dim")
    tell(console, f"kept in {output}: timings.parquet, bench.md, bench.csv, bench.svg, bench.png")


def print_bench_cases(console: Console, cases: Mapping[str, tuple[Case, str]]) -> None:
    """Prints every case, its goals, and why some cannot be measured here."""
    from gapbench.bench import goals_of

    for case, reason in cases.values():
        goals = goals_of(case) or ("no goal set",)
        _print_entry(console, case.name, case.summary, goals, f"cannot be measured here: {reason}" if reason else "")


def _print_measured(console: Console, machine: str, rows: Iterable[Row]) -> None:
    """Prints the timings of a machine, case by case."""
    wide = console.width >= WIDE
    words = ("case and sides", "verdict")
    headings = ("case and sides", "images/s", "ratio", "goal", "verdict", "rounds", "A/A")
    columns = [Column(heading) if heading in words else Column(heading, justify="right", no_wrap=True) for heading in headings]
    shown = range(len(columns)) if wide else (0, 2, 3, 4)
    lines: list[list[RenderableType]] = []
    for (case, threads), own in groupby(rows, lambda row: (row.case, row.threads)):
        lines.append([Text(f"{case}, {count(threads, 'thread')}" if wide else case, style="bold")])
        lines += ([cells[column] for column in shown] for cells in map(_cells, own))
    print_table(console, [columns[column] for column in shown], lines, title=machine)
    console.print()


def _cells(row: Row) -> list[RenderableType]:
    from gapbench.bench.summary import goal_column, ratio_text

    return [
        Padding(Text(row.what), (0, 0, 0, 2)),
        f"{row.side.examples_per_second:,.0f}" + (f" / {row.against.examples_per_second:,.0f}" if row.against else ""),
        ratio_text(row.ratio, row.kind),
        goal_column(row),
        " ".join(filter(None, [row.verdict, "(loaded)" if row.loaded else ""])),
        str(row.rounds),
        "" if row.spread is None else f"{100 * row.spread:.1f} %",
    ]
