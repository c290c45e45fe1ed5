"""The same exponent on a paper's own curves: one digitised curve a batch size, so a standard error from its residuals and no interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapbench import published
from gapbench.analysis.diffusion.laws import nested_fit
from gapbench.analysis.formats import signed

FEWEST_READ = 4
"""Points that three parameters and a standard error need."""


@dataclass(frozen=True)
class PublishedExponent:
    """The nested exponent of one published curve."""

    figure: str
    batch_size: int
    first: int
    last: int
    points: int
    exponent: float | None
    """None where too few points were read."""
    standard_error: float | None
    source: str


def published_exponents(paper: str) -> list[PublishedExponent]:
    """Returns the exponents of every curve of weight distance that was read off a paper's figures.

    Raises:
        UnknownNameError: no figures of such a paper are kept.
    """
    found = [published.figure(paper, name) for name in published.figures(paper)]
    out = []
    for figure in found:
        for curve in figure.curves if figure.y == "weight distance" else ():
            fit = nested_fit(np.array(curve.x), np.array([curve.y])) if len(curve.x) >= FEWEST_READ else None
            exponent, error = (None, None) if fit is None else (float(fit.exponent[0]), float(fit.standard_error[0]))
            known = exponent is not None and np.isfinite(exponent)
            first, last = int(curve.x[0]), int(curve.x[-1])
            source = figure.source
            out.append(
                PublishedExponent(
                    figure.name, curve.batch_size, first, last, len(curve.x), exponent if known else None, error if known else None, source
                )
            )
    return out


def published_sentences(exponents: list[PublishedExponent]) -> list[str]:
    """Returns what the published curves say, with the caution that they need."""
    out = []
    for one in exponents:
        where = f"{one.figure}, batch size {one.batch_size}, updates {one.first:,} to {one.last:,}"
        if one.exponent is None or one.standard_error is None:
            out.append(f"{where}: no exponent, for {one.points} points were read; {FEWEST_READ} are needed.")
        else:
            out.append(f"{where}: exponent {signed(one.exponent, 2)}, standard error {one.standard_error:.2f} ({one.points} points).")
    out.append(
        "One curve each: the standard errors take residuals for independent, which those of one trajectory are not, so they are too small; "
        "windows differ from batch size to batch size, and the exponent depends on the window."
    )
    return out
