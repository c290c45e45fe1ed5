"""log.txt: what a run's workers printed and how each of its starts went; read back as the last lines that people are shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

TAIL_BYTES = 16384
"""Of the end of a log that is looked at for its last lines."""

MAXIMUM_LINE = 300
"""Characters of a line that are shown."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_START = re.compile(r"^\[\d{4}-\d\d-\d\dT[^\]]*\] (?:begins at|goes on after) update ")
_STACKED = "trains in one stack with "


def start_line(started_at: str, update: int, device: str) -> str:
    """Returns the line that every start of a run begins with."""
    return f"[{started_at}] {'goes on after' if update else 'begins at'} update {update} on {device}"


def stack_line(leader: str) -> str:
    """Returns the line of a stack's other runs that says where the stack's prints are."""
    return f"{_STACKED}{leader}: what is printed stands in its log"


def last_lines(path: Path, number: int = 8) -> tuple[str, ...]:
    """Returns the last lines since the last start, for a terminal: no control codes, of a progress bar only its last state.

    The marks of gapbench itself (`start_line`, `stack_line`) and empty lines are left out. Empty where there is no log.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    lines: list[str] = []
    for raw in text.split("\n"):
        line = _printable(raw)
        if _START.match(line):
            lines.clear()
        elif line.strip(" ^~") and not line.startswith(_STACKED):  # without a traceback's marks under its lines
            lines.append(line if len(line) <= MAXIMUM_LINE else line[: MAXIMUM_LINE - 1] + "…")
    return tuple(lines[-number:])


def _printable(line: str) -> str:
    """Returns a line as it would stand in a terminal at the end: what a carriage return has written over is gone."""
    states = [state for state in _ESCAPES.sub("", line).split("\r") if state.strip()]
    return "".join(character for character in (states[-1] if states else "").expandtabs(4) if character.isprintable()).rstrip()
