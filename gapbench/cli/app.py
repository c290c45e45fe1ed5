"""The application: its group, which turns errors into one clear message, and the commands about suites and their results."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import gapbench
from gapbench import api, console
from gapbench.cli.options import OnlyOption, ParentOption, ResultsArgument, SetOption, SuiteArgument, at_place, parse_settings
from gapbench.core.errors import GapbenchError, OutputError, SuiteError

if TYPE_CHECKING:
    from gapbench.api import Place


class Group(TyperGroup):
    """Prints errors of gapbench without a traceback and exits with their status; Ctrl-C exits with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except OutputError:
            raise  # `main` tells it, also where it comes from a help text
        except GapbenchError as error:
            problems = error.problems if isinstance(error, SuiteError) else ()
            # Of several mistakes each line begins with its file: editors and terminals then lead there.
            text = f"error: {len(problems)} mistakes\n{error}" if len(problems) > 1 else f"error: {error}"
            console.tell(console.err(), text, style="red")
            raise typer.Exit(error.exit_status) from None
        except KeyboardInterrupt:
            console.tell(console.err(), "interrupted")
            raise typer.Exit(130) from None


class Detail(StrEnum):
    """How much `report` prints."""

    SHORT = "short"
    FULL = "full"


app = typer.Typer(
    name="gapbench",
    cls=Group,
    help="Measures the large-batch generalization gap: how much test accuracy large batches cost, and what closes the gap.",
    epilog="Exit status: 0 all ok, 1 some run not ok, 2 wrong input, 130 interrupted. Interrupting is safe: the same command goes on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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


def command_to_go_on() -> str:
    """Returns the command that goes on with what was begun: these options would begin it anew."""
    return shlex.join(["gapbench", *(argument for argument in sys.argv[1:] if argument not in ("--force", "--retry"))])


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("suite.toml"),
) -> None:
    """Write a starter suite, to change and run. Never writes over a file."""
    written = api.starter_suite(path)
    console.tell(console.out(), f"{written}: look at it, then `gapbench plan {written}` and `gapbench run {written}`")


@app.command()
@at_place
def run(
    suite: SuiteArgument,
    place: Place,
    settings: SetOption = None,
    only: OnlyOption = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Three updates of every program, made small, into <suite>.smoke/.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Train crashed, timed-out and out-of-memory runs again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Train everything again; old attempts stay beside the new ones.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first run that is not ok.")] = False,
    max_device_hours: Annotated[
        float | None, typer.Option("--max-device-hours", min=0.0, help="Refuse to train what is predicted to take longer.")
    ] = None,
) -> None:
    """Train what has no result yet, then write tables and figures. The same command again goes on where it stopped."""
    with console.view(console.err()) as observe:
        report = api.run(
            suite,
            place,
            settings=parse_settings(settings),
            only=only,
            smoke=smoke,
            retry=retry,
            force=force,
            fail_fast=fail_fast,
            max_device_hours=max_device_hours,
            observe=observe,
            command=command_to_go_on(),
        )
    if report.files is not None:
        console.print_report(console.out(), report.files)
    if report.took is not None:
        console.print_took(console.out(), report.took)
    console.print_unfinished(console.err(), report)
    raise typer.Exit(report.exit_status)


@app.command()
@at_place
def plan(
    suite: SuiteArgument,
    place: Place,
    settings: SetOption = None,
    only: OnlyOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First measure this machine for some minutes; later plans know, too.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="List all cells, also where there are more than 60.")] = False,
) -> None:
    """Say what a suite would train, drop and take, and what to be careful about. Writes no results."""
    changed = parse_settings(settings)
    if calibrate:
        api.calibrate(suite, place, settings=changed, only=only, say=lambda text: console.tell(console.err(), text))
    console.print_plan(console.out(), api.plan(suite, place, settings=changed, only=only), every=every)


@app.command()
def report(
    results: ResultsArgument = None,
    parent: ParentOption = Path("results"),
    verdict: Annotated[
        Detail, typer.Option("--verdict", help="short: the answer and the table; full: every comparison, column and note as well.")
    ] = Detail.SHORT,
) -> None:
    """Write tables and figures from results, also partial ones and bundles, and print what they say."""
    console.print_report(console.out(), api.report(api.find(results, parent)), full=verdict is Detail.FULL)


@app.command()
def clean(
    results: ResultsArgument = None,
    parent: ParentOption = Path("results"),
    cache: Annotated[bool, typer.Option("--cache", help="Also decoded data sets and measured speeds; downloads stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove old attempts, checkpoints of finished runs, half-written files. Never a result."""
    leftovers = api.find_leftovers(parent if results is None else api.find(results, parent), cache=cache)
    if not leftovers:
        console.tell(console.out(), "nothing to remove")
        return
    console.print_leftovers(console.out(), leftovers)
    total = console.size(sum(leftover.size_bytes for leftover in leftovers))
    if not yes and not typer.confirm(f"remove these {len(leftovers)} ({total})?"):
        console.tell(console.out(), "nothing was removed")
        return
    console.tell(console.out(), f"removed {console.count(len(leftovers), 'leftover')}, {console.size(api.clean(leftovers))}")
