"""`gapbench tune`: the comparison made fair by tuning every cell alike, on a held-out part of the training set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapbench import api, console
from gapbench.cli.app import app, command_to_go_on
from gapbench.cli.options import SetOption, SuiteArgument, at_place, parse_settings

if TYPE_CHECKING:
    from gapbench.api import Place


@app.command()
@at_place
def tune(
    suite: SuiteArgument,
    place: Place,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="The tuned suite to write; default: <suite>-tuned.toml beside the suite. Never written over."
        ),
    ] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Only say what would be tried and what that would take.")] = False,
    settings: SetOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="Train crashed, timed-out and out-of-memory trials again.")] = False,
    max_device_hours: Annotated[
        float | None, typer.Option("--max-device-hours", min=0.0, help="Refuse to train what is predicted to take longer at most.")
    ] = None,
) -> None:
    """Search the learning rate of every cell, with as many trials each, and write a suite with the best ones.

    Scored on a held-out part of the training set; the test set is left alone. The same command again goes on where it stopped.
    """
    changed = parse_settings(settings)
    if only_plan:
        console.print_tuning_plan(console.out(), api.plan_tuning(suite, place, settings=changed, output=output))
        return
    terminal = console.err()
    with console.view(terminal) as observe:
        report = api.tune(
            suite,
            place,
            settings=changed,
            output=output,
            retry=retry,
            max_device_hours=max_device_hours,
            announce=lambda plan: console.print_tuning_plan(terminal, plan),
            observe=observe,
            command=command_to_go_on(),
        )
    if report.files is not None:
        console.print_report(console.out(), report.files)
    if report.suite_file is not None:
        console.print_tuned_suite(console.out(), report.suite_file)
    console.print_untuned(console.err(), report)
    raise typer.Exit(report.exit_status)
