"""What merging came to, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from gapbench.console.words import count

if TYPE_CHECKING:
    from gapbench.store import Merged

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
