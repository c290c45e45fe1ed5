"""The commands about what exists and what works here: listings, data sets, this machine, components, speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gapbench import api, console
from gapbench.cli.app import app
from gapbench.cli.options import DataOption, OfflineOption, ParentOption, PluginOption, UsageError, completes, parse_settings

data_app = typer.Typer(help="Download and verify data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

DatasetArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Of the data set.", autocompletion=completes(lambda: api.names("datasets")))
]


@app.command(name="ls")
def list_things(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="datasets, models, regimes, optimizers, recipes, probes or suites; default: the names of all.",
            show_default=False,
            autocompletion=completes(lambda: api.kinds()),
        ),
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """List what exists: datasets, models, regimes, optimizers, recipes, probes or suites."""
    if kind is not None:
        console.print_listing(console.out(), api.listing(kind, plugin or ()))
        return
    for one in api.kinds():
        console.tell(console.out(), f"{one}: {', '.join(item.name for item in api.listing(one, plugin or ()))}")
    console.tell(console.out(), "`gapbench ls KIND` says more of each")


@data_app.command()
def fetch(name: DatasetArgument, data_dir: DataOption = None, plugin: PluginOption = None) -> None:
    """Download what is missing of a data set's official files."""
    console.print_data_files(console.out(), name, api.fetch_dataset(name, data_dir=data_dir, plugins=plugin or ()))


@data_app.command()
def verify(name: DatasetArgument, data_dir: DataOption = None, plugin: PluginOption = None) -> None:
    """Check the files of a data set against their official checksums."""
    files = api.verify_dataset(name, data_dir=data_dir, plugins=plugin or ())
    console.print_data_files(console.out(), name, files)
    bad = [file for file in files if file.status in ("missing", "corrupt")]
    if bad:
        text = f"{len(bad)} of {len(files)} files are not as they should be; `gapbench data fetch {name}` downloads missing ones"
        console.say(console.err(), text)
        raise typer.Exit(2)


@app.command()
def doctor(
    data_dir: DataOption = None,
    results: ParentOption = Path("results"),
    fast: Annotated[bool, typer.Option("--fast", help="Leave out what has to start torch: it takes half a minute.")] = False,
) -> None:
    """Say what this machine can do, and how to mend what it cannot. Exit status 1 if something is bad."""
    if not fast:
        console.say(console.err(), "trying torch and a compilation: up to a minute (--fast leaves that out)")
    findings = api.doctor(data_dir=data_dir, results=results, fast=fast)
    console.print_findings(console.out(), findings)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


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
    console.tell(console.out(), f"{written}: name it in the first line of a suite: #:schema ./{written.name}")


def _components() -> list[str]:
    return list(dict.fromkeys(name for kind in ("datasets", "models", "optimizers", "regimes", "probes") for name in api.names(kind)))


@app.command(name="test")
def conformity(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Components, such as resnet or model:tiny; default: everything that the --plugin files define.",
            autocompletion=completes(_components),
            show_default=False,
        ),
    ] = None,
    plugin: PluginOption = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the component, such as depth=20. May be repeated.")
    ] = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
) -> None:
    """Test components of your own, or built-in ones: builds, shapes, gradients, repeatable, ghost norm and replicas exact, ..."""
    place = api.Place(data_dir=data_dir, plugins=plugin or (), offline=offline)
    report = api.check_components(*(names or ()), place=place, options=parse_settings(option))
    console.print_conformity(console.out(), report.checks)
    raise typer.Exit(report.exit_status)


@app.command()
def bench(
    cases: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CASES]...",
            help="Cases to time; default: all of the device.",
            autocompletion=completes(lambda: api.bench_cases()),
        ),
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
    if only_list:
        console.print_bench_cases(console.out(), api.bench_cases())
        return
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device}: should be cpu or cuda")
    report = api.bench(
        cases or (),
        rounds=rounds,
        seconds=seconds,
        output=output,
        device=device,  # type: ignore[arg-type]  # one of the two, see above
        anyway=anyway,
        say=lambda text: console.tell(console.err(), text),
    )
    console.print_bench(console.out(), report, output)
