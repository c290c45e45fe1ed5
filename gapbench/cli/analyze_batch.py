"""The commands `gapbench analyze critical-batch` and `gapbench analyze noise-scale`."""

from __future__ import annotations

from typing import Annotated

import typer

from gapbench.cli.analyze import OutputOption, ResultsArgument, analyze_app, tell
from gapbench.cli.late import api
from gapbench.cli.options import complete_results


@analyze_app.command("critical-batch")
def critical_batch(
    results: Annotated[
        str | None,
        typer.Argument(
            metavar="[RESULTS]",
            help="Results directory, bundle, name below results/, a CSV file of batch_size,steps, or published:zhang2024; "
            "default: the newest results there.",
            autocompletion=complete_results,
            show_default=False,
        ),
    ] = None,
    output: OutputOption = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="METRIC=VALUE", help="Such as train_loss=0.1; several times; default: the suite's."),
    ] = None,
) -> None:
    """How large a batch is still useful? Steps to a target against batch size, the critical batch size, the shape of the curve."""
    tell(api.analyze("critical-batch", results, targets=target or ()), output)


@analyze_app.command("noise-scale")
def noise_scale(
    results: ResultsArgument = None,
    output: OutputOption = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="KEY=VALUE,...", help="Only the runs that match, such as batch_size=32,seed=0.")
    ] = None,
) -> None:
    """How noisy are the gradients? The noise scale of every run along training, with intervals."""
    tell(api.analyze("noise-scale", results, only=only), output)
