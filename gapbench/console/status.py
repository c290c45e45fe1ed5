"""`gapbench status` in words and numbers: how far results are, who is at work, what failed, how to go on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from gapbench.console.failures import print_failures, retry_advice
from gapbench.console.layout import Column, table_lines
from gapbench.console.sentences import place, say
from gapbench.console.words import clock, count, duration, percent
from gapbench.core.outcome import FINAL, Outcome

if TYPE_CHECKING:
    from gapbench.api import Status

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
        say(console, Text(f"{count(status.old_attempts, 'old attempt')} beside them; `gapbench clean` removes such", style="dim"))


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
    columns = []
    numbers = {
        "ok": [cell.done for cell in status.cells],
        "failed": [cell.failed for cell in status.cells],
        "training": [cell.training for cell in status.cells],
        "begun": [cell.outcomes.get(Outcome.INTERRUPTED, 0) - cell.training for cell in status.cells],
        "waiting": [cell.outcomes.get(Outcome.SKIPPED, 0) for cell in status.cells],
    }
    for importance, (heading, values) in enumerate(numbers.items()):
        if any(values) or heading == "ok":
            columns.append(Column(heading, [f"{value:,}" if value > 0 else "" for value in values], importance=9 - importance))
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
