"""Failed runs, for people: what happened, why, the last lines of the log and where all of it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from gapbench.console.sentences import place, say, unfolded
from gapbench.console.words import count, numbers
from gapbench.core.outcome import RETRIED, Outcome
from gapbench.store import Failure

if TYPE_CHECKING:
    from gapbench.api import FailedRun

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
    for alike in _alike(failures):
        first = alike[0]
        share = f"{len(alike)} of {len(outcomes)} " if len(alike) < len(outcomes) else ""
        lines.append(Text(f"{title}: {share}{first.outcome.value}{_because(first)}", style="yellow"))
        lines += _log(first, quoted=(first.outcome, first.reason) not in told)
        told.add((first.outcome, first.reason))
    return lines


def print_failures(console: Console, failed: Sequence[FailedRun], *, quoted: bool = True) -> None:
    """Prints failed runs, seeds of a cell that failed alike as one."""
    groups: dict[tuple[str, Outcome, str], list[FailedRun]] = {}
    for run in failed:
        groups.setdefault((run.cell, run.failure.outcome, run.failure.reason), []).append(run)
    for position, group in enumerate(list(groups.values())[:MAXIMUM_GROUPS]):
        first = group[0].failure
        seeds = numbers([run.seed for run in group])
        say(console, Text(f"{group[0].cell} seed{'s' if len(group) > 1 else ''} {seeds}: {first.outcome.value}{_because(first)}", "yellow"))
        for line in _log(first, quoted=quoted and position < LOGS_SHOWN):
            say(console, line)
    if len(groups) > MAXIMUM_GROUPS:
        rest = sum(len(group) for group in list(groups.values())[MAXIMUM_GROUPS:])
        say(console, Text(f"and {count(rest, 'run')} more; `gapbench status --json` lists all", style="dim"))


def retry_advice(failed: Sequence[FailedRun]) -> str:
    """Returns how failed runs are trained again; empty where none of them is worth it."""
    again = sum(run.failure.outcome in RETRIED for run in failed)
    return "" if not again else "--retry trains these again" if again == len(failed) else f"--retry trains {again} of them again"


def _alike(failures: Sequence[Failure]) -> list[list[Failure]]:
    groups: dict[tuple[Outcome, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.outcome, failure.reason), []).append(failure)
    return list(groups.values())


def _because(failure: Failure) -> str:
    return f": {failure.reason}" if failure.reason else ""


def _log(failure: Failure, *, quoted: bool) -> list[Text]:
    lines = [unfolded(f"    | {line}", style="dim") for line in (failure.last_lines if quoted else ())]
    return [*lines, unfolded(f"    log: {place(failure.log)}")]
