"""The commands about results that are there: compared, merged, taken elsewhere, and how far they are."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gapbench import api, console
from gapbench.cli.app import app
from gapbench.cli.options import ParentOption, ResultsArgument, UsageError, complete_results, results_argument


class FailOn(StrEnum):
    """What makes `compare` exit with 1."""

    REGRESSION = "regression"
    DIFFERENCE = "difference"
    ENVIRONMENT = "environment"


@app.command()
def compare(
    first: Annotated[str, results_argument("Results directory, bundle, name below results/, or published:hoffer2017.", "A")],
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
    console.print_comparison(console.out(), comparison)
    if written is not None:
        console.tell(console.out(), f"written: {written}")
    failures = {kind.value: api.comparison_failures(comparison, kind.value) for kind in dict.fromkeys(fail_on or ())}
    console.print_comparison_failures(console.err(), failures)
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
    console.print_merged(console.out(), api.merge(results, into))


@app.command()
def export(
    results: ResultsArgument = None,
    parent: ParentOption = Path("results"),
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="One small archive that `gapbench report` reads elsewhere: .tar.gz or .zip."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="DIR", help="Tidy tables: runs.csv, curves.csv, arms.csv.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", metavar="FILE", help="The arms table for a paper (booktabs, graphicx).")] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAME,...",
            help="Of the LaTeX table: arm, batch, ghost, rate, n, accuracy, loss, train-loss, gap, matched-loss, verdict, paper.",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="DIR", help="Event files, a folder a run; needs gapbench[tensorboard].")
    ] = None,
) -> None:
    """Take results elsewhere, in one or more forms. Never writes over anything."""
    chosen = [name.strip() for name in columns.split(",")] if columns else ()
    for written in api.export(api.find(results, parent), bundle, csv=csv, latex=latex, columns=chosen, tensorboard=tensorboard):
        console.tell(console.out(), f"{written.path}: {written.what}")


@app.command()
def status(
    results: ResultsArgument = None,
    parent: ParentOption = Path("results"),
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
    folder, terminal = api.find(results, parent), console.out()
    seen = api.status(folder)
    if as_json:
        typer.echo(json.dumps(seen.as_json(), indent=1, ensure_ascii=False, allow_nan=False))
        return
    if watch and seen.in_use:
        if not (terminal.is_interactive and terminal.file.isatty()):
            raise UsageError("--watch draws in a terminal; without one call `gapbench status` again, or use --json")
        seen = console.watch_status(terminal, seen, lambda: api.status(folder))
    console.print_status(terminal, seen)
