"""The commands `gapbench analyze landscape` and `gapbench analyze sharpness`."""

from __future__ import annotations

from typing import Annotated

import typer

from gapbench.cli.analyze import OutputOption, analyze_app
from gapbench.cli.app import out
from gapbench.cli.late import api, console
from gapbench.cli.options import complete_results

ResultsArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RESULTS]",
        help="Results directory, bundle, or name below results/; default: the newest there.",
        autocompletion=complete_results,
        show_default=False,
    ),
]


@analyze_app.command()
def landscape(
    results: ResultsArgument = None,
    output: OutputOption = None,
    bins: Annotated[int, typer.Option("--bins", min=3, help="Equal bins of distance, from 0 to the largest.")] = 10,
) -> None:
    """How does the loss vary around the weights? Spread against distance, beside what gradient and curvature predict."""
    _show(api.analyze("landscape", results, bins=bins), output)


@analyze_app.command()
def sharpness(results: ResultsArgument = None, output: OutputOption = None) -> None:
    """How sharp are the minima? Keskar's measure, top eigenvalue and trace, beside loss and edge of stability."""
    _show(api.analyze("sharpness", results), output)


def _show(found: api.Analysis, output: OutputOption) -> None:
    written = found.write(output) if output is not None else []
    console.print_analysis(out(), f"{found.suite}: {found.what}", found.sentences)
    if written:
        out().print(f"written: {output} ({len(written)} files)", highlight=False, markup=False, soft_wrap=True)
