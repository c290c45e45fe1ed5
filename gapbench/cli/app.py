"""The application: its group, which turns errors into one clear message, and the commands about suites and results."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import gapbench
from gapbench.cli.late import api, console
from gapbench.cli.options import (
    DataOption,
    DevicesOption,
    OnlyOption,
    ParentOption,
    PluginOption,
    ResultsArgument,
    SetOption,
    SlotsOption,
    SuiteArgument,
    parse_settings,
)
from gapbench.core.errors import GapbenchError, SuiteError

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 160


class Group(TyperGroup):
    """Prints errors of gapbench without a traceback and exits with their status; Ctrl-C exits with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except GapbenchError as error:
            problems = error.problems if isinstance(error, SuiteError) else ()
            # Of several mistakes each line begins with its file: editors and terminals then lead there.
            text = f"error: {len(problems)} mistakes\n{error}" if len(problems) > 1 else f"error: {error}"
            err().print(text, style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_status) from None
        except KeyboardInterrupt:
            err().print("interrupted", highlight=False)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="gapbench",
    cls=Group,
    help="Measures the large-batch generalization gap: how much test accuracy large batches cost, and what closes the gap.",
    epilog="Exit status: 0 all ok, 1 some run not ok, 2 wrong input, 130 interrupted. Interrupting is safe: the same command goes on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def out() -> Console:
    """Returns the console of results: stdout. In a file or a pipe there is room for all columns."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_WIDTH)


def err() -> Console:
    """Returns the console of progress and errors: stderr. Training outlives its reader."""
    return console.LastingConsole(file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gapbench {gapbench.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("suite.toml"),
) -> None:
    """Write a starter suite, to change and run. Never writes over a file."""
    written = api.starter_suite(path)
    out().print(f"{written}: look at it, then `gapbench plan {written}` and `gapbench run {written}`", highlight=False, soft_wrap=True)


@app.command()
def run(
    suite: SuiteArgument,
    settings: SetOption = None,
    only: OnlyOption = None,
    devices: DevicesOption = None,
    slots: SlotsOption = None,
    results: ParentOption = Path("results"),
    data_dir: DataOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download anything.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Three updates of every program, made small, into <suite>.smoke/.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Train crashed, timed-out and out-of-memory runs again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Train everything again; old attempts stay beside the new ones.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first run that is not ok.")] = False,
    max_device_hours: Annotated[
        float | None, typer.Option("--max-device-hours", min=0.0, help="Refuse to train what is predicted to take longer.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Train what has no result yet, then write tables and figures. The same command again goes on where it stopped."""
    with console.view(err()) as observe:
        report = api.run(
            suite,
            settings=parse_settings(settings or ()),
            only=only,
            devices=devices,
            slots=slots,
            results=results,
            data_dir=data_dir,
            offline=offline,
            smoke=smoke,
            retry=retry,
            force=force,
            fail_fast=fail_fast,
            max_device_hours=max_device_hours,
            plugins=plugin or (),
            observe=observe,
            command=_command_to_go_on(sys.argv[1:]),
        )
    if report.files is not None:
        console.print_arms(out(), report.files.arms)
        console.print_side_tables(out(), report.files.side)
        console.print_files(out(), report.results, report.files.figures)
    if report.took is not None:
        console.print_took(out(), report.took)
    console.print_unfinished(err(), report)
    raise typer.Exit(report.exit_status)


def _command_to_go_on(arguments: list[str]) -> str:
    """Returns the command that goes on with what was begun: these options would begin it anew."""
    return shlex.join(["gapbench", *(argument for argument in arguments if argument not in ("--force", "--retry"))])


@app.command()
def plan(
    suite: SuiteArgument,
    settings: SetOption = None,
    only: OnlyOption = None,
    devices: DevicesOption = None,
    slots: SlotsOption = None,
    results: ParentOption = Path("results"),
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First measure this machine for some minutes; later plans know, too.")
    ] = False,
    data_dir: DataOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download anything.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Say what a suite would train, drop and take, and what to be careful about. Writes no results."""
    if calibrate:
        api.calibrate(
            suite,
            settings=parse_settings(settings or ()),
            only=only,
            devices=devices,
            slots=slots,
            results=results,
            data_dir=data_dir,
            offline=offline,
            plugins=plugin or (),
            say=lambda text: err().print(text, highlight=False, markup=False, soft_wrap=True),
        )
    planned = api.plan(
        suite,
        settings=parse_settings(settings or ()),
        only=only,
        devices=devices,
        slots=slots,
        results=results,
        plugins=plugin or (),
    )
    console.print_plan(out(), planned)


@app.command()
def report(results: ResultsArgument = None) -> None:
    """Write tables and figures from results, also partial ones and bundles, and print the arms table."""
    folder = api.find(results)
    files = api.report(folder)
    console.print_arms(out(), files.arms)
    console.print_side_tables(out(), files.side)
    console.print_files(out(), files.tables[0].parent.parent, files.figures)


@app.command()
def clean(
    results: ResultsArgument = None,
    cache: Annotated[bool, typer.Option("--cache", help="Also decoded data sets and measured speeds; downloads stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove old attempts, checkpoints of finished runs, half-written files. Never a result."""
    from gapbench.console.words import count, size

    leftovers = api.find_leftovers(None if results is None else api.find(results), cache=cache)
    if not leftovers:
        out().print("nothing to remove", highlight=False)
        return
    console.print_leftovers(out(), leftovers)
    total = size(sum(leftover.size_bytes for leftover in leftovers))
    if not yes and not typer.confirm(f"remove these {len(leftovers)} ({total})?"):
        out().print("nothing was removed", highlight=False)
        return
    out().print(f"removed {count(len(leftovers), 'leftover')}, {size(api.clean(leftovers))}", highlight=False)
