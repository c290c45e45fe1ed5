"""`gapbench status`: how far results are, once or again and again, for people or for scripts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapbench.cli.app import app, out
from gapbench.cli.late import api, console
from gapbench.cli.options import ResultsArgument, UsageError

if TYPE_CHECKING:
    from rich.text import Text

WATCH_SECONDS = 2.0


@app.command()
def status(
    results: ResultsArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds until training ends; Ctrl-C ends only this.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Say how far results are, also while a suite trains elsewhere. Reads files only.

    Exit status 0 whatever became of the runs: `--json` says it, and `gapbench run` has exited accordingly.
    """
    if watch and as_json:
        raise UsageError("--watch is for people and --json for scripts; give one of them")
    folder = api.find(results)
    seen = api.status(folder)
    if as_json:
        typer.echo(json.dumps(seen.as_json(), indent=1, ensure_ascii=False, allow_nan=False))
        return
    if watch and seen.in_use:
        seen = _watch(folder, seen)
    console.print_status(out(), seen)


def _watch(folder: Path, seen: api.Status) -> api.Status:
    """Draws the state again and again, until nobody is at work any more."""
    from rich.text import Text

    terminal = out()
    if not (terminal.is_interactive and terminal.file.isatty()):
        raise UsageError("--watch draws in a terminal; without one call `gapbench status` again, or use --json")
    latest = [seen]

    def draw(width: int, height: int) -> list[Text]:
        lines = console.status_lines(latest[0], width)
        return lines if len(lines) <= height else [*lines[: max(0, height - 1)], Text(f"and {len(lines) - height + 1} lines more")][:height]

    region = console.Region(terminal, draw)
    region.start()
    try:
        while latest[0].in_use:
            time.sleep(WATCH_SECONDS)
            latest[0] = api.status(folder)
    except KeyboardInterrupt:
        pass  # this ends; what trains is another process and goes on
    finally:
        region.stop()
    return latest[0]
