"""The commands `gapbench analyze WHAT`: questions that are put to results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gapbench import api, console
from gapbench.cli.app import app
from gapbench.cli.options import ParentOption, ResultsArgument, results_argument

analyze_app = typer.Typer(
    help="Put a question to results: sentences with intervals, figures, tidy numbers.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(analyze_app, name="analyze")

OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="A new folder for page, figures (SVG and PNG) and CSV.", file_okay=False)
]


def answer(what: str, results: str | None, parent: Path, output: Path | None, **options: Any) -> None:
    """Analyses results, writes that where it is wanted, and prints the sentences."""
    found = api.analyze(what, results, parent, **options)
    written = found.write(output) if output is not None else []
    console.print_analysis(console.out(), f"{found.suite}: {found.what}", found.sentences)
    if written:
        console.tell(console.out(), f"written: {output} ({len(written)} files)")


@analyze_app.command()
def diffusion(
    results: Annotated[
        str | None,
        results_argument("Results directory, bundle, suite, name below --results, or published:hoffer2017; default: the newest there."),
    ] = None,
    parent: ParentOption = Path("results"),
    output: OutputOption = None,
    first: Annotated[
        int | None,
        typer.Option("--first", min=1, help="First update of every window; default: clipping and warmup over, 100 or a tenth of the end."),
    ] = None,
    last: Annotated[int | None, typer.Option("--last", min=2, help="Last update of the common window.")] = None,
) -> None:
    """Do the weights diffuse? Drift and spread over data orders, growth exponents, predictions beyond the fit, collapse."""
    answer("diffusion", results, parent, output, first=first, last=last)


@analyze_app.command("critical-batch")
def critical_batch(
    results: Annotated[
        str | None,
        results_argument(
            "Results directory, bundle, suite, name below --results, a CSV file of batch_size,steps, or published:zhang2024; "
            "default: the newest results there."
        ),
    ] = None,
    parent: ParentOption = Path("results"),
    output: OutputOption = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="METRIC=VALUE", help="Such as train_loss=0.1; several times; default: the suite's."),
    ] = None,
) -> None:
    """How large a batch is still useful? Steps to a target against batch size, the critical batch size, the shape of the curve."""
    answer("critical-batch", results, parent, output, targets=target or ())


@analyze_app.command("noise-scale")
def noise_scale(
    results: ResultsArgument = None,
    parent: ParentOption = Path("results"),
    output: OutputOption = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="KEY=VALUE,...", help="Only the runs that match, such as batch_size=32,seed=0.")
    ] = None,
) -> None:
    """How noisy are the gradients? The noise scale of every run along training, with intervals."""
    answer("noise-scale", results, parent, output, only=only)


@analyze_app.command()
def landscape(
    results: ResultsArgument = None,
    parent: ParentOption = Path("results"),
    output: OutputOption = None,
    bins: Annotated[int, typer.Option("--bins", min=3, help="Equal bins of distance, from 0 to the largest.")] = 10,
) -> None:
    """How does the loss vary around the weights? Spread against distance, beside what gradient and curvature predict."""
    answer("landscape", results, parent, output, bins=bins)


@analyze_app.command()
def sharpness(results: ResultsArgument = None, parent: ParentOption = Path("results"), output: OutputOption = None) -> None:
    """How sharp are the minima? Keskar's measure, top eigenvalue and trace, beside loss and edge of stability."""
    answer("sharpness", results, parent, output)
