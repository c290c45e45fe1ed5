"""The commands about several results, and about taking results elsewhere: compare, merge, export."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapbench.cli.app import app, err, out
from gapbench.cli.late import api, console
from gapbench.cli.options import ResultsArgument, UsageError, complete_results

if TYPE_CHECKING:
    from rich.text import Text


class FailOn(StrEnum):
    """What makes `compare` exit with 1."""

    REGRESSION = "regression"
    DIFFERENCE = "difference"
    ENVIRONMENT = "environment"


@app.command()
def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="Results directory, bundle, name below results/, or published:hoffer2017.",
            autocompletion=complete_results,
            show_default=False,
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The same; differences are B minus A.", autocompletion=complete_results)],
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(
            "--fail-on",
            help="Exit with 1 on: regression (a cell's accuracy separated below A's by Holm over the cells, a run ok in A and not in B, "
            "a cell missing in B); difference (also anything separated above, a separated loss, any other outcome, a label with "
            "other values, a cell missing in A); environment (other versions, device, "
            "precision, threads, commit, stacks or program). May be repeated.",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write the comparison as tidy CSV.")] = None,
) -> None:
    """Put two results side by side: environment, cells, outcomes, what only one has."""
    comparison = api.compare(first, second)
    written = api.write_comparison(comparison, csv) if csv is not None else None
    console.print_comparison(out(), comparison)
    if written is not None:
        out().print(f"written: {written}", highlight=False, soft_wrap=True)
    failures = {kind.value: api.comparison_failures(comparison, kind.value) for kind in dict.fromkeys(fail_on or ())}
    console.print_comparison_failures(err(), failures)
    if any(failures.values()):
        raise typer.Exit(1)


@app.command()
def merge(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULTS", help="Results directories of one suite, such as of two machines.", autocompletion=complete_results
        ),
    ],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The new directory; may not exist yet.")],
) -> None:
    """Merge results directories of one suite into a new one. Nothing is averaged; the directories stay as they are."""
    merged = api.merge(results, into)
    console.print_merged(out(), merged)


@app.command()
def export(
    results: ResultsArgument = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="One small archive that `gapbench report` reads elsewhere: .tar.gz or .zip."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="DIR", help="Tidy tables: runs.csv, curves.csv, arms.csv.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", metavar="FILE", help="The arms table for a paper (booktabs, graphicx).")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="DIR", help="Event files, a folder a run; needs gapbench[tensorboard].")
    ] = None,
) -> None:
    """Take results elsewhere, in one or more forms. Never writes over anything."""
    for written in api.export(results, bundle, csv=csv, latex=latex, tensorboard=tensorboard):
        out().print(f"{written.path}: {written.what}", highlight=False, markup=False, soft_wrap=True)


# `gapbench status`: how far results are, once or again and again, for people or for scripts.

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
