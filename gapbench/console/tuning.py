"""What people see of a tuning: what it would take, and what it found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from gapbench.console.status import print_failures, retry_advice
from gapbench.console.tables import plain_table
from gapbench.console.words import count, duration, say

if TYPE_CHECKING:
    from gapbench.api import TuneReport, TuningPlan
    from gapbench.report.tuning import TuningFiles

_WORDS = frozenset({"cell", "regime", "optimum"})


def print_tuning_plan(console: Console, plan: TuningPlan) -> None:
    """Prints what tuning would try at first, and what all of it would take at most."""
    from gapbench.api.planning import hours

    table = plain_table(title=f"tuning {plan.suite}: {count(len(plan.cells), 'cell')}, the same number of trials for each")
    table.add_column("cell", overflow="fold")
    for heading in ("batch", "learning rates", "points", "runs", "updates", "trained on", "held out"):
        table.add_column(heading, justify="right")
    for cell in plan.cells:
        table.add_row(
            escape(cell.title),
            f"{cell.batch_size:,}",
            f"{cell.lowest:g} to {cell.highest:g}" if cell.highest > cell.lowest else f"{cell.lowest:g}",
            str(cell.points),
            f"{cell.runs:,}",
            f"{cell.updates:,}",
            f"{cell.train_examples:,}",
            f"{cell.held_out:,}" + (f" x {plan.folds} folds" if plan.folds > 1 else ""),
        )
    console.print(table)
    console.print()
    if not plan.round:
        console.print("the search is complete: nothing is left to train", highlight=False)
        return
    unknown = f", without {count(plan.unknown, 'job')} that cannot be predicted" if plan.unknown else ""
    console.print(
        f"next: {plan.round}, {count(plan.runs, 'run')} on {', '.join(plan.devices)}, {duration(plan.device_seconds)} of device time "
        f"predicted; at most {count(plan.runs_at_most, 'run')} with every extension and the check, {duration(plan.device_seconds_at_most)} "
        f"({hours(plan.device_seconds_at_most)} device hours), {duration(plan.wall_seconds_at_most)} by the clock{unknown}",
        highlight=False,
    )


def print_tuning(console: Console, files: TuningFiles) -> None:
    """Prints what a tuning found, and where its figure is."""
    from gapbench.report.tuning import tuning_columns, tuning_notes, tuning_row

    tuned = files.tuned
    table = plain_table(title=f"{tuned.suite}: tuning")
    for column in tuning_columns(tuned):
        table.add_column(column, justify="left" if column in _WORDS else "right", overflow="fold")
    for cell in tuned.cells:
        table.add_row(*map(escape, tuning_row(tuned, cell)))
    console.print(table)
    console.print()
    for note in tuning_notes(tuned):
        console.print(Padding(Text(f"note: {note}", style="dim"), (0, 0, 0, 2)))
    console.print(f"tables:  {escape(str(files.tables[0].parent))}", highlight=False, soft_wrap=True)
    names = ", ".join(dict.fromkeys(path.stem for path in files.figures))
    if files.figures:
        console.print(f"figures: {escape(str(files.figures[0].parent))} ({names})", highlight=False, soft_wrap=True)


def print_tuned_suite(console: Console, suite_file: Path) -> None:
    """Says what to do with the tuned suite."""
    path = escape(str(suite_file))
    console.print(f"{path}: the tuned suite; `gapbench run {path}` trains it on the whole training set", highlight=False, soft_wrap=True)


def print_untuned(console: Console, report: TuneReport) -> None:
    """Says why there is no tuned suite."""
    if report.failed:
        advice = retry_advice(report.failed)
        say(console, f"not ok: {count(len(report.failed), 'trial')}{f'; {advice}' if advice else ''}", style="yellow")
        print_failures(console, report.failed)
    elif not report.interrupted and report.suite_file is None:
        say(console, "no suite is written: a cell has no learning rate at which all trials end well", style="yellow")
