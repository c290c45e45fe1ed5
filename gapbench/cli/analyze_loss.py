"""The commands `gapbench analyze landscape` and `gapbench analyze sharpness`."""

from __future__ import annotations

from typing import Annotated

import typer

from gapbench.cli.analyze import OutputOption, ResultsArgument, analyze_app, tell
from gapbench.cli.late import api


@analyze_app.command()
def landscape(
    results: ResultsArgument = None,
    output: OutputOption = None,
    bins: Annotated[int, typer.Option("--bins", min=3, help="Equal bins of distance, from 0 to the largest.")] = 10,
) -> None:
    """How does the loss vary around the weights? Spread against distance, beside what gradient and curvature predict."""
    tell(api.analyze("landscape", results, bins=bins), output)


@analyze_app.command()
def sharpness(results: ResultsArgument = None, output: OutputOption = None) -> None:
    """How sharp are the minima? Keskar's measure, top eigenvalue and trace, beside loss and edge of stability."""
    tell(api.analyze("sharpness", results), output)
