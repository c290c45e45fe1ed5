"""The commands about what exists: listings, data sets, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gapbench.cli.app import app, err, out
from gapbench.cli.late import api, console
from gapbench.cli.options import DataOption, ParentOption, PluginOption, UsageError, completes, parse_settings

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


# `gapbench schema`: what editors need to complete and check suite files.


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write it there; never over a file.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Print the JSON Schema of suite files, which editors complete by. A suite names its file in the first line, as `init` writes it."""
    if output is None:
        typer.echo(api.suite_schema(plugin or ()), nl=False)
        return
    written = api.write_suite_schema(output, plugin or ())
    out().print(f"{written}: name it in the first line of a suite: #:schema ./{written.name}", highlight=False, soft_wrap=True)


# The command `gapbench test`: whether components do what the engine relies on.


def _complete(incomplete: str) -> list[str]:
    names = [name for kind in ("datasets", "models", "optimizers", "regimes", "probes") for name in api.names(kind)]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


@app.command(name="test")
def conformity(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Components, such as resnet or model:tiny; default: everything that the --plugin files define.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = None,
    plugin: PluginOption = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the component, such as depth=20. May be repeated.")
    ] = None,
    data_dir: DataOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download anything.")] = False,
) -> None:
    """Test components of your own, or built-in ones: builds, shapes, gradients, repeatable, ghost norm and replicas exact, ..."""
    report = api.check_components(
        *(names or ()), plugins=plugin or (), options=parse_settings(option or ()), data_dir=data_dir, offline=offline
    )
    from gapbench.console.tables import print_conformity

    print_conformity(out(), report.checks)
    raise typer.Exit(report.exit_status)


# The command about speed.


def _complete_cases(incomplete: str) -> list[str]:
    from gapbench.bench import CASES

    return [name for name in CASES if name.startswith(incomplete)]


@app.command()
def bench(
    cases: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CASES]...", help="Cases to time; default: all of the device.", autocompletion=_complete_cases),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", min=0, help="Rounds that there are to be, earlier ones included; 0 only writes table and figure anew. [5]"
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.1, help="Length of a timing; default: the case's own.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Where timings are kept.")] = Path("results/bench"),
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: cuda where there is a GPU.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Time on a loaded machine, too; the results are marked.")] = False,
    only_list: Annotated[bool, typer.Option("--list", help="Say what could be timed, and with what goals; time nothing.")] = False,
) -> None:
    """Time the engine against loops that people would run instead, side by side; again goes on."""
    from gapbench.bench import CASES, ROUNDS, compare, unmeasurable

    if only_list:
        console.print_bench_cases(out(), CASES, unmeasurable())
        return
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device}: should be cpu or cuda")
    report = compare(
        cases or (),
        rounds=ROUNDS if rounds is None else rounds,
        seconds=seconds,
        output=output,
        device=device,  # type: ignore[arg-type]  # one of the two, see above
        anyway=anyway,
        on_message=lambda text: err().print(text, highlight=False, markup=False, soft_wrap=True),
    )
    console.print_bench(out(), report, output)
