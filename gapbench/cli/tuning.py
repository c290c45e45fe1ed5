"""`gapbench tune`: the comparison made fair by tuning every cell alike, on a held-out part of the training set."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from gapbench.cli.app import app, err, out
from gapbench.cli.late import api, console
from gapbench.cli.options import (
    DataOption,
    DevicesOption,
    ParentOption,
    PluginOption,
    SetOption,
    SlotsOption,
    SuiteArgument,
    parse_settings,
)


@app.command()
def tune(
    suite: SuiteArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="The tuned suite to write; default: <suite>-tuned.toml beside the suite. Never written over."
        ),
    ] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Only say what would be tried and what that would take.")] = False,
    neighbours: Annotated[
        bool | None,
        typer.Option("--neighbours/--no-neighbours", help="Also arms at the rates beside the best ones; default: as [tune] says."),
    ] = None,
    settings: SetOption = None,
    devices: DevicesOption = None,
    slots: SlotsOption = None,
    results: ParentOption = Path("results"),
    data_dir: DataOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download anything.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Train crashed, timed-out and out-of-memory trials again.")] = False,
    max_device_hours: Annotated[
        float | None, typer.Option("--max-device-hours", min=0.0, help="Refuse to train what is predicted to take longer at most.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Search the learning rate of every cell, with as many trials each, and write a suite with the best ones.

    Scored on a held-out part of the training set; the test set is left alone. The same command again goes on where it stopped.
    """
    changed = parse_settings(settings or ())
    if only_plan:
        plan = api.plan_tuning(suite, settings=changed, output=output, devices=devices, slots=slots, results=results, plugins=plugin or ())
        console.print_tuning_plan(out(), plan)
        return
    terminal = err()
    with console.view(terminal) as observe:
        report = api.tune(
            suite,
            settings=changed,
            output=output,
            neighbours=neighbours,
            devices=devices,
            slots=slots,
            results=results,
            data_dir=data_dir,
            offline=offline,
            retry=retry,
            max_device_hours=max_device_hours,
            plugins=plugin or (),
            announce=lambda plan: console.print_tuning_plan(terminal, plan),
            observe=observe,
            command=shlex.join(["gapbench", *(argument for argument in sys.argv[1:] if argument != "--retry")]),
        )
    if report.files is not None:
        console.print_tuning(out(), report.files)
    if report.suite_file is not None:
        console.print_tuned_suite(out(), report.suite_file)
    console.print_untuned(err(), report)
    raise typer.Exit(report.exit_status)
