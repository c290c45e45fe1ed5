"""`gapbench status` in words and numbers: how far results are, who is at work, what failed, how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from gapbench.console.words import clock, count, duration, grouped, numbers, percent, place, say, unfolded
from gapbench.core.events import FINAL, RETRIED, Outcome
from gapbench.store import Failure

if TYPE_CHECKING:
    from gapbench.api import FailedRun, Status


MAXIMUM_GROUPS = 12
"""Groups of failures that a summary lists; the rest is counted."""

LOGS_SHOWN = 3
"""Groups whose log is quoted in a summary."""


def job_failures(title: str, outcomes: Mapping[str, Outcome], failures: Sequence[Failure], told: set[tuple[Outcome, str]]) -> list[Text]:
    """Returns the lines about a job of which runs have failed; runs that failed alike are told of once.

    Args:
        title: of the job.
        outcomes: of all its runs.
        failures: of those that failed.
        told: outcomes and reasons whose log has been quoted before, as is done once; grows.
    """
    lines: list[Text] = []
    for alike in grouped(failures, lambda failure: (failure.outcome, failure.reason)):
        first = alike[0]
        share = f"{len(alike)} of {len(outcomes)} " if len(alike) < len(outcomes) else ""
        lines.append(Text(f"{title}: {share}{first.outcome.value}{_because(first)}", style="yellow"))
        lines += _log(first, quoted=(first.outcome, first.reason) not in told)
        told.add((first.outcome, first.reason))
    return lines


def print_failures(console: Console, failed: Sequence[FailedRun], *, quoted: bool = True) -> None:
    """Prints failed runs with reasons and logs, seeds of a cell that failed alike as one."""
    groups = grouped(failed, lambda run: (run.cell, run.failure.outcome, run.failure.reason))
    for position, group in enumerate(groups[:MAXIMUM_GROUPS]):
        first = group[0].failure
        seeds = numbers([run.seed for run in group])
        say(console, Text(f"{group[0].cell} seed{'s' if len(group) > 1 else ''} {seeds}: {first.outcome.value}{_because(first)}", "yellow"))
        for line in _log(first, quoted=quoted and position < LOGS_SHOWN):
            say(console, line)
    if len(groups) > MAXIMUM_GROUPS:
        rest = sum(len(group) for group in groups[MAXIMUM_GROUPS:])
        say(console, Text(f"and {count(rest, 'run')} more; `gapbench status --json` lists all", style="dim"))


def retry_advice(failed: Sequence[FailedRun]) -> str:
    """Returns how failed runs are trained again; empty where none of them is worth it."""
    again = sum(run.failure.outcome in RETRIED for run in failed)
    return "" if not again else "--retry trains these again" if again == len(failed) else f"--retry trains {again} of them again"


def _because(failure: Failure) -> str:
    return f": {failure.reason}" if failure.reason else ""


def _log(failure: Failure, *, quoted: bool) -> list[Text]:
    lines = [unfolded(f"    | {line}", style="dim") for line in (failure.last_lines if quoted else ())]
    return [*lines, unfolded(f"    log: {place(failure.log)}")]


GAP = 2

TITLE_WIDTH = 14
"""Columns of the terminal that the first column keeps, where it needs them, before another column may stand beside it."""


@dataclass(frozen=True)
class Column:
    """A right-aligned column of numbers."""

    heading: str
    cells: Sequence[str]
    importance: int
    """The column with the lowest goes first."""
    instead: str = ""
    """Heading of a column that this one stands in for: it is shown only where that one is not."""

    @property
    def width(self) -> int:
        """In characters."""
        return max(cell_len(text) for text in (self.heading, *self.cells))


def fitting(titles: Sequence[str], columns: Sequence[Column], width: int, keep: int = TITLE_WIDTH) -> list[Column]:
    """Returns the columns that fit beside the titles, of which so much is kept."""
    room = width - min(max(map(cell_len, titles), default=0), keep)
    kept: list[Column] = []
    for column in sorted(columns, key=lambda column: -column.importance):
        if column.instead and any(other.heading == column.instead for other in kept):
            continue
        if column.width + GAP <= room:
            kept.append(column)
            room -= column.width + GAP
    return [column for column in columns if column in kept]


def table_lines(
    heading: str, titles: Sequence[str], columns: Sequence[Column], width: int, *, header: bool = True, keep: int = TITLE_WIDTH
) -> list[Text]:
    """Returns the lines of a table that fits any width: whole columns go, the least important first, and no number is ever cut.

    Titles that are too long are cut, and end in an ellipsis.
    """
    kept = fitting((heading, *titles), columns, width, keep)
    room = max(1, width - sum(column.width + GAP for column in kept))
    first = min(room, max(cell_len(text) for text in (heading, *titles)))
    lines = [Text(_row(heading, [column.heading for column in kept], kept, first), style="dim")] if header else []
    return lines + [Text(_row(title, [column.cells[row] for column in kept], kept, first)) for row, title in enumerate(titles)]


def _row(title: str, cells: Sequence[str], columns: Sequence[Column], first: int) -> str:
    start = set_cell_size(title, first) if cell_len(title) <= first else set_cell_size(title, first - 1) + "…"
    return start + "".join(" " * (GAP + column.width - cell_len(text)) + text for column, text in zip(columns, cells, strict=True))


NAME_WIDTH = 32
"""Columns of the terminal, but no more than two fifths of them, that names of cells keep before another column may stand beside them."""


def print_status(console: Console, status: Status) -> None:
    """Prints how far a results directory is."""
    for line in [*status_lines(status, console.width), Text()]:
        say(console, line)
    print_failures(console, status.failed, quoted=False)
    advice = retry_advice(status.failed)
    if advice:
        say(console, Text(advice))
    for sentence in _what_now(status):
        say(console, Text(sentence))
    if status.old_attempts:
        say(console, Text(f"{count(status.old_attempts, 'old attempt')} beside them, kept", style="dim"))


def status_lines(status: Status, width: int) -> list[Text]:
    """Returns what changes while a suite trains, for a terminal of this width: a sentence, the cells, the jobs in training."""
    lines = [Text(_headline(status), style="bold"), *map(Text, _whereabouts(status)), *_cells(status, width)]
    if status.session is not None and status.state in ("training", "stopping") and status.session.jobs:
        lines += [Text(), *_jobs(status, width)]
    return lines


def _headline(status: Status) -> str:
    ended = sum(run.outcome in FINAL for run in status.runs)
    runs = f"{ended:,} of {count(len(status.runs), 'run')}"
    match status.state:
        case "done":
            words = f"all {count(len(status.runs), 'run')} have ended" if len(status.runs) > 1 else "its run has ended"
        case "stopped":
            words = f"{runs} have ended, nothing is training"
        case "finishing":
            words = f"{runs} have ended; training is over, tables and figures are being made"
        case "stopping":
            words = f"{runs} have ended; stopping: checkpoints are being written"
        case "training":
            words = f"{runs} have ended, training now"
    return f"{status.suite}: {words}"


def _whereabouts(status: Status) -> list[str]:
    """Returns where it trains, since when, and how long it will take: a line while somebody does, else none."""
    session = status.session
    if session is None or status.state not in ("training", "stopping"):
        return []
    passed = duration(session.seconds + (status.silent_seconds or 0.0))
    left = "time left not known yet" if status.seconds_left is None else f"{_time(status.seconds_left, rough=session.rough)} left"
    return [f"on {session.host} for {passed}, {left}"]


def _cells(status: Status, width: int) -> list[Text]:
    values = {
        "ok": [cell.done for cell in status.cells],
        "failed": [cell.failed for cell in status.cells],
        "training": [cell.training for cell in status.cells],
        "begun": [cell.outcomes.get(Outcome.INTERRUPTED, 0) - cell.training for cell in status.cells],
        "waiting": [cell.outcomes.get(Outcome.SKIPPED, 0) for cell in status.cells],
    }
    columns = [
        Column(heading, [f"{value:,}" if value > 0 else "" for value in own], importance=9 - place)
        for place, (heading, own) in enumerate(values.items())
        if any(own) or heading == "ok"
    ]
    shares = [cell.updates_done / cell.updates if cell.updates else 1.0 for cell in status.cells]
    columns.append(Column("updates", [f"{cell.updates_done:,}/{cell.updates:,}" for cell in status.cells], importance=1))
    # Rounded down: what is not done entirely is never 100 %.
    columns.append(Column("done", [f"{int(100 * share)} %" for share in shares], importance=10))
    return table_lines("cell", [cell.cell for cell in status.cells], columns, width, keep=min(NAME_WIDTH, 2 * width // 5))


def _jobs(status: Status, width: int) -> list[Text]:
    jobs = status.session.jobs if status.session else ()
    columns = [
        Column("updates", [f"{job.update:,}/{job.updates:,}" for job in jobs], importance=3),
        Column("done", [f"{100 * job.update // max(job.updates, 1)} %" for job in jobs], importance=2, instead="updates"),
        Column("test acc.", [percent(job.test_accuracy) for job in jobs], importance=1),
        Column("left", [clock(job.seconds_left) for job in jobs], importance=4),
    ]
    return table_lines("training", [job.title for job in jobs], columns, width, keep=min(NAME_WIDTH, 2 * width // 5))


def _what_now(status: Status) -> list[str]:
    """Returns how to go on."""
    if status.state != "stopped":
        return []
    session, sentences = status.session, []
    if status.lost and session is not None:
        silent = duration(status.silent_seconds)
        sentences.append(f"nothing was heard from {session.host} for {silent}: it was killed; at most a minute of training is lost")
    left = len([run for run in status.runs if run.outcome not in FINAL])
    time = f", {_time(status.seconds_left, rough=True)} of training" if status.seconds_left else ""
    sentences.append(f"{count(left, 'run')} left{time}; {_how_to_go_on(status)}")
    return sentences


def _how_to_go_on(status: Status) -> str:
    session = status.session
    if session is None or not session.command:
        return f"`gapbench run` with the same suite goes on ({place(status.results / 'suite.toml')} says what was asked)"
    elsewhere = Path(session.folder) != Path.cwd()
    return f"to go on: {f'cd {shlex.quote(session.folder)} && ' if elsewhere else ''}{session.command}"


def _time(seconds: float | None, *, rough: bool) -> str:
    return f"{'about ' if rough else ''}{duration(seconds)}"
