"""Tables for people: the arms, a plan, how far results are, what exists, what doctor found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gapbench.console.status import print_failures, retry_advice
from gapbench.console.words import count, duration, mebibytes, say, size
from gapbench.core.events import FINAL, Outcome
from gapbench.suite.batches import bounds_of_updates

if TYPE_CHECKING:
    from gapbench.analysis import ArmsTable, SideTable
    from gapbench.api import Finding, Listed, Plan, RunReport, Took
    from gapbench.bench import BenchReport, Case, Row
    from gapbench.conformity import Check
    from gapbench.store import Leftover, Merged
    from gapbench.suite import RunSpec
    from gapbench.workloads.datasets import FileStatus


GUTTER = 3
"""Blanks between columns: the padding, and the place of a rule."""

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "bad": ("bad", "red")}


def print_arms(console: Console, arms: ArmsTable) -> None:
    """Prints the arms table, as many columns as fit, then the verdict and the notes."""
    from gapbench.analysis.formats import ARM, AT, VERDICT  # with numpy, which no other table needs

    left_out: list[str] = []
    for panel in arms.panels:
        rows = [dict(zip(arms.short_columns, arms.cells(row, arms.short_columns), strict=True)) for row in arms.rows_of(panel)]
        widths = _fitting(arms.short_columns, rows, console.width)
        left_out = [column for column in arms.short_columns if column not in widths]
        table = plain_table(title=panel.title)
        for column, width in widths.items():
            table.add_column(column, justify="left" if column in (ARM, VERDICT, AT) else "right", overflow="fold", width=width)
        for row in rows:
            table.add_row(*(escape(row[column]) for column in widths))
        console.print(table)
        console.print()
    if left_out:
        console.print(f"(no room for: {', '.join(left_out)}; all columns stand in tables/arms.md)", style="dim", highlight=False)
    for sentence in arms.verdict:
        console.print(escape(sentence), highlight=False)
    for note in arms.notes:
        console.print(Padding(Text(f"note: {note}", style="dim"), (0, 0, 0, 2)))


def print_side_tables(console: Console, tables: Sequence[SideTable]) -> None:
    """Prints what else a suite shows: the words and notes of each side table. The tables themselves are too wide for a terminal."""
    for table in tables:
        console.print()
        console.print(f"{table.title} (tables/{table.name}.md)", style="bold", highlight=False)
        for sentence in table.sentences:
            console.print(escape(sentence), highlight=False)
        for note in table.notes:
            console.print(Padding(Text(f"note: {note}", style="dim"), (0, 0, 0, 2)))


def print_files(console: Console, results: Path, figures: Sequence[Path]) -> None:
    """Says where the files are."""
    names = ", ".join(dict.fromkeys(path.stem for path in figures))
    console.print(f"results: {escape(str(results))}", highlight=False, soft_wrap=True)
    console.print(f"report:  {escape(str(results / 'report.html'))}", highlight=False, soft_wrap=True)
    if names:
        console.print(f"figures: {escape(str(results / 'figures'))} ({names})", highlight=False, soft_wrap=True)


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


def print_plan(console: Console, plan: Plan) -> None:
    """Prints what a suite would train, what it drops, what it would take, and what to be careful about."""
    table = plain_table(title=f"{plan.suite.name}: {count(plan.runs, 'run')} in {count(len(plan.cells), 'cell')}")
    table.add_column("cell", overflow="fold")
    for heading in ("runs", "batch", "N/B", "ghost", "rate", "updates", "examples", "memory", "time"):
        table.add_column(heading, justify="right", no_wrap=heading in ("updates", "examples"))  # counts are shown to the last digit
    table.add_column("known", style="dim")
    for cell in plan.cells:
        spec = cell.spec
        table.add_row(
            escape(cell.cell),
            str(cell.runs) if not cell.done else f"{cell.runs} ({cell.done} done)",
            _batch_sizes(spec),
            f"{spec.train_examples / spec.batch_size:.3g}",
            "off" if spec.ghost_batch_size is None else str(spec.ghost_batch_size),
            f"{spec.learning_rate:.3g}",
            f"{spec.updates:,}" if spec.adaptive_batch is None else f"about {spec.updates:,}",
            f"{spec.examples:,}",
            mebibytes(cell.memory_mib),
            "?" if cell.seconds is None else duration(cell.seconds),
            cell.basis,
        )
    console.print(table)
    console.print()
    slots = f"{count(plan.slots, 'slot')} with {count(plan.threads, 'thread')}" if plan.devices == ("cpu",) else count(plan.slots, "slot")
    left = plan.runs - plan.done
    console.print(f"{count(left, 'run')} to train in {count(plan.jobs, 'job')} on {', '.join(plan.devices)}, {slots}", highlight=False)
    if left:
        from gapbench.api.planning import hours

        unknown = f", without {count(plan.unknown, 'job')} that cannot be predicted" if plan.unknown else ""
        text = (
            f"predicted: {duration(plan.device_seconds)} of device time ({hours(plan.device_seconds)} device hours), "
            f"{duration(plan.wall_seconds)} by the clock{unknown}"
        )
        console.print(text, highlight=False)
    for cell in plan.cells:
        if cell.spec.adaptive_batch is not None:
            console.print(f"{escape(cell.cell)}: {_about(cell.spec)}", style="dim", highlight=False)
    for sentence in _explained({cell.basis for cell in plan.cells}):
        console.print(sentence, style="dim", highlight=False)
    for reason, cells in _dropped(plan).items():
        console.print(f"dropped: {', '.join(cells)}: {escape(reason)}", highlight=False)
    print_warnings(console, plan.warnings)


def print_warnings(console: Console, warnings: Iterable[str]) -> None:
    """Prints what to be careful about."""
    for warning in warnings:
        console.print(f"warning: {escape(warning)}", style="yellow", highlight=False)


def print_took(console: Console, took: Took) -> None:
    """Says in one line how good the prediction was."""
    by = ", by a rough guess" if took.rough else ""
    console.print(
        f"training took {duration(took.seconds)} of {duration(took.predicted_seconds)} predicted{by} "
        f"(device time {duration(took.device_seconds)} of {duration(took.predicted_device_seconds)})",
        highlight=False,
    )


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
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.state]
        remedy = f"\n-> {finding.remedy}" if finding.remedy else ""
        table.add_row(Text(word, style=style), escape(finding.name), Text(finding.text + remedy))
    console.print(table)


def print_data_files(console: Console, name: str, files: Sequence[FileStatus]) -> None:
    """Prints the state of a data set's files."""
    if not files:
        console.print(f"{name}: has no files of its own to check", highlight=False)
    for file in files:
        style = {"missing": "yellow", "corrupt": "red"}.get(file.status, "")
        expected = f" (checksum {file.found_md5}, should be {file.expected_md5})" if file.status == "corrupt" else ""
        console.print(f"{file.status:8} {escape(str(file.path))}{expected}", style=style, highlight=False, soft_wrap=True)


def print_leftovers(console: Console, leftovers: Sequence[Leftover]) -> None:
    """Prints what would be removed."""
    for leftover in leftovers:
        text = f"{size(leftover.size_bytes):>10}  {leftover.what}: {escape(str(leftover.path))}"
        console.print(text, highlight=False, soft_wrap=True)


def _batch_sizes(spec: RunSpec) -> str:
    """Returns a run's batch size, or between which sizes it lies."""
    if spec.adaptive_batch is not None:
        return f"{spec.adaptive_batch.smallest:,} to {spec.adaptive_batch.largest:,}"
    return f"{spec.batch_size:,} to {spec.batches.largest:,}" if spec.batches.grows else f"{spec.batch_size:,}"


def _about(spec: RunSpec) -> str:
    """Says what is exact of a run whose batch follows the noise scale, and what is not."""
    fewest, most = bounds_of_updates(spec)
    how = f"its batch begins with {spec.batch_size:,} and follows the noise scale"
    return f"exactly {spec.examples:,} examples in {fewest:,} to {most:,} updates: {how}"


def _explained(bases: Collection[str]) -> list[str]:
    """Returns what the bases of a plan's times mean, in one sentence and, where something can be done about them, another."""
    meanings = {
        "measured": "measured: jobs like it have trained on this machine",
        "calibrated": "calibrated: a short measurement on this machine",
        "rough": "rough: a guess, which may be wrong by a factor of two or more",
        "unknown": "unknown: a model or data set that nothing can be guessed of",
    }
    sentences = ["; ".join(text for basis, text in meanings.items() if basis in bases)]
    if {"rough", "unknown"} & set(bases):
        sentences.append("--calibrate measures for some minutes; so does every run that ends")
    return sentences


def _dropped(plan: Plan) -> dict[str, list[str]]:
    reasons: dict[str, dict[str, int]] = {}
    for run in plan.dropped:
        cells = reasons.setdefault(run.reason, {})
        cells[run.labels.cell] = cells.get(run.labels.cell, 0) + 1
    return {reason: [f"{escape(cell)} ({count(number, 'run')})" for cell, number in cells.items()] for reason, cells in reasons.items()}


def _fitting(columns: Sequence[str], rows: Sequence[dict[str, str]], width: int) -> dict[str, int]:
    """Returns the columns that fit side by side, with their widths: all with whole headings, else the most important ones, headings folded.

    At least the first three are kept.
    """
    from gapbench.analysis.formats import ACCURACY, ARM, AT, COUNT, GAP, SHARE, TEST_LOSS, TRAIN_LOSS, VERDICT

    importance = (ARM, ACCURACY, GAP, COUNT, VERDICT, SHARE, TEST_LOSS, TRAIN_LOSS, AT)
    cells = {column: max((len(row[column]) for row in rows), default=0) for column in columns}
    whole = {column: max(cells[column], len(column)) for column in columns}
    if sum(whole.values()) + GUTTER * (len(columns) - 1) <= width:
        return whole
    needed = {column: max(cells[column], _folded(column)) for column in columns}
    kept: list[str] = []
    room = width + GUTTER
    for column in sorted(columns, key=lambda column: importance.index(column) if column in importance else len(importance)):
        if len(kept) < 3 or needed[column] + GUTTER <= room:
            kept.append(column)
            room -= needed[column] + GUTTER
    return {column: needed[column] for column in columns if column in kept}


def _folded(heading: str) -> int:
    """Returns the width at which a heading needs two lines."""
    words = heading.split()
    return min((max(len(" ".join(words[:cut])), len(" ".join(words[cut:]))) for cut in range(1, len(words))), default=len(heading))


def plain_table(title: str) -> Table:
    """Returns an empty table in the one style of all tables."""
    return Table(
        title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, GUTTER - 1, 0, 0), show_edge=False
    )


# An analysis in a terminal: its sentences, panel by panel.


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


# What merging came to, in a terminal.

MANY = 10
"""More conflicts than this are counted."""


def print_merged(console: Console, merged: Merged) -> None:
    """Prints which runs came from where, and where directories disagree."""
    sources = ", ".join(f"{number} from {path}" for path, number in merged.runs.items())
    _say(console, f"{merged.path}: {count(sum(merged.runs.values()), 'run')}: {sources}")
    if merged.identical:
        _say(console, f"{count(merged.identical, 'run')} with exactly equal numbers in more than one directory")
    if merged.grown:
        _say(console, "the directories asked for different runs: the plan is their union, and suite.toml says so")
    for conflict in merged.conflicts[:MANY]:
        found = "; ".join(f"{path}: {words}" for path, words in conflict.found.items())
        _say(console, f"not the same: {conflict.run_id}: {found}; kept that of {conflict.kept}", style="yellow")
    if len(merged.conflicts) > MANY:
        _say(console, f"not the same: {count(len(merged.conflicts) - MANY, 'more run')}", style="yellow")
    for run_id in merged.begin_anew:
        _say(console, f"begins anew: {run_id} (the rest of its stack came from another directory)", style="yellow")
    if merged.old_attempts:
        _say(console, f"{count(merged.old_attempts, 'old attempt')} stayed where they are", style="dim")
    _say(console, f"gapbench report {merged.path} writes its tables and figures")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


# What testing components came to, for people.

_STYLES = {"pass": "green", "fail": "red", "warning": "yellow", "does not apply": "dim"}


def print_conformity(console: Console, checks: Sequence[Check]) -> None:
    """Prints the checks of every component, with the remedies, and how many failed."""
    for (kind, component), own in groupby(checks, lambda check: (check.kind, check.component)):
        console.print(f"{kind} [bold]{escape(component)}[/bold]", highlight=False)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check in own:
            remedy = f"\n-> {check.remedy}" if check.remedy else ""
            table.add_row(Text(check.state, style=_STYLES[check.state]), escape(check.check), Text(check.text + remedy))
        console.print(table)
        console.print()
    numbers = {state: sum(check.state == state for check in checks) for state in _STYLES}
    parts = [f"{count(numbers['fail'], 'check')} failed" if numbers["fail"] else "no check failed", f"{numbers['pass']} passed"]
    parts += [count(numbers["warning"], "warning")] if numbers["warning"] else []
    parts += [f"{numbers['does not apply']} did not apply"] if numbers["does not apply"] else []
    console.print(", ".join(parts), style="red" if numbers["fail"] else "", highlight=False)


# Views of the bench: what could be compared, and what was measured.

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
    from gapbench.bench.summary import goal_column, ratio_text

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
