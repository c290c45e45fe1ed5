"""The commands `gapbench analyze WHAT`: questions that are put to results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapbench.cli.app import app, out
from gapbench.cli.late import api, console
from gapbench.cli.options import complete_results

if TYPE_CHECKING:
    from gapbench.api.analyzing import Analysis


analyze_app = typer.Typer(help="Put a question to results: sentences with intervals, figures, tidy numbers.", no_args_is_help=True,
                          rich_markup_mode=None)  # fmt: skip
app.add_typer(analyze_app, name="analyze")

ResultsArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RESULTS]",
        help="Results directory, bundle, or name below results/; default: the newest there.",
        autocompletion=complete_results,
        show_default=False,
    ),
]

OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="A new folder for page, figures (SVG and PNG) and CSV.", file_okay=False)
]


@analyze_app.command()
def diffusion(
    results: Annotated[
        str | None,
        typer.Argument(
            metavar="[RESULTS]",
            help="Results directory, bundle, name below results/, or published:hoffer2017; default: the newest there.",
            autocompletion=complete_results,
            show_default=False,
        ),
    ] = None,
    output: OutputOption = None,
    first: Annotated[
        int | None,
        typer.Option("--first", min=1, help="First update of every window; default: clipping and warmup over, 100 or a tenth of the end."),
    ] = None,
    last: Annotated[int | None, typer.Option("--last", min=2, help="Last update of the common window.")] = None,
) -> None:
    """Do the weights diffuse? Drift and spread over data orders, growth exponents, predictions beyond the fit, collapse."""
    tell(api.analyze("diffusion", results, first=first, last=last), output)


def tell(found: Analysis, output: Path | None) -> None:
    """Writes an analysis where that is asked for, and prints its sentences."""
    written = found.write(output) if output is not None else []
    console.print_analysis(out(), f"{found.suite}: {found.what}", found.sentences)
    if written:
        out().print(f"written: {output} ({len(written)} files)", highlight=False, markup=False, soft_wrap=True)


# The commands `gapbench analyze critical-batch` and `gapbench analyze noise-scale`.


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


# The commands `gapbench analyze landscape` and `gapbench analyze sharpness`.


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
