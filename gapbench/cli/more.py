"""The commands about what exists: listings, data sets, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gapbench.cli.app import app, err, out
from gapbench.cli.late import api, console
from gapbench.cli.options import DataOption, ParentOption, PluginOption, completes

data_app = typer.Typer(help="Download and verify data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

DatasetArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the data set.", autocompletion=completes("datasets"))]


@app.command(name="ls")
def list_things(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="datasets, models, regimes, optimizers, recipes, probes or suites; default: the names of all.",
            show_default=False,
            autocompletion=lambda incomplete: [kind for kind in api.kinds() if kind.startswith(incomplete)],
        ),
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """List what exists: datasets, models, regimes, optimizers, recipes, probes or suites."""
    if kind is not None:
        console.print_listing(out(), api.listing(kind, plugin or ()))
        return
    for one in api.kinds():
        names = ", ".join(item.name for item in api.listing(one, plugin or ()))
        out().print(f"{one}: {names}", highlight=False, markup=False, soft_wrap=True)
    out().print("`gapbench ls KIND` says more of each", highlight=False)


@data_app.command()
def fetch(name: DatasetArgument, data_dir: DataOption = None, plugin: PluginOption = None) -> None:
    """Download what is missing of a data set's official files."""
    console.print_data_files(out(), name, api.fetch_dataset(name, data_dir, plugin or ()))


@data_app.command()
def verify(name: DatasetArgument, data_dir: DataOption = None, plugin: PluginOption = None) -> None:
    """Check the files of a data set against their official checksums."""
    files = api.verify_dataset(name, data_dir, plugin or ())
    console.print_data_files(out(), name, files)
    bad = [file for file in files if file.status in ("missing", "corrupt")]
    if bad:
        err().print(f"{len(bad)} of {len(files)} files are not as they should be; `gapbench data fetch {name}` downloads missing ones")
        raise typer.Exit(2)


@app.command()
def doctor(
    data_dir: DataOption = None,
    results: ParentOption = Path("results"),
    fast: Annotated[bool, typer.Option("--fast", help="Leave out what has to start torch: it takes half a minute.")] = False,
) -> None:
    """Say what this machine can do, and how to mend what it cannot. Exit status 1 if something is bad."""
    if not fast:
        err().print("trying torch and a compilation: up to a minute (--fast leaves that out)", highlight=False)
    findings = api.doctor(data_dir, fast=fast, results=results)
    console.print_findings(out(), findings)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
