"""What can be concluded of critical batch sizes: sentences, each with its interval and what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapbench.analysis.critical_batch.hyperbola import BRACKET, Hyperbola, Interval
from gapbench.analysis.critical_batch.prediction import NEAR, by_batch_size
from gapbench.analysis.critical_batch.rates import unequal_budget

if TYPE_CHECKING:
    from gapbench.analysis.critical_batch.study import CurveStudy, Study


def sentences_of(found: Study) -> dict[str, list[str]]:
    """Returns the sentences by title, what could not be analysed at the end."""
    out: dict[str, list[str]] = {}
    for curve in found.curves:
        title = curve.title + (f", {curve.method}" if curve.method else "")
        out.setdefault(title, []).extend(_curve(curve))
    if found.notes:
        out["Not analysed"] = [f"{note}." for note in found.notes]
    return out


def _curve(curve: CurveStudy) -> list[str]:
    start = f"{curve.target[0].upper()}{curve.target[1:]}"
    if curve.fit is None:
        return [f"{start}: no critical batch size: {curve.reason}.", *_flags(curve, start)]
    fit = curve.fit
    out = [
        f"{start}: critical batch size {_between(fit.critical_batch)} examples (n = {fit.n} runs at {len(fit.batch_sizes)} batch sizes, "
        f"{_count(fit.batch_sizes[0])} to {_count(fit.batch_sizes[-1])}), at twice the least examples and twice the least steps "
        f"(McCandlish et al. 2018); by the definition of 20 % more examples (Zhang et al. 2024) {_count(fit.overhead_batch(0.2))}.",
        f"{start}: at least {_between(fit.smallest_steps)} updates however large the batch, at least "
        f"{_count(fit.smallest_examples)} examples however small; log steps stray {100 * fit.residual:.1f} % about the fit.",
        f"{start}: {_shape(fit)}",
    ]
    if fit.extrapolated:
        out.append(
            f"{start}: extrapolated: {_sizes(fit.below)} at or below a quarter of it and {_sizes(fit.above)} at or above {BRACKET:g} times "
            "it, where two on either side would hold it."
        )
    return [*out, *_predictions(curve, start, fit), *_flags(curve, start)]


def _predictions(curve: CurveStudy, start: str, fit: Hyperbola) -> list[str]:
    """Returns what the noise scale of single runs predicts, by the batch size that it was measured at."""
    out = []
    for size, weighted, naive in by_batch_size(curve.predictions):
        runs = sum(one.batch_size == size for one in curve.predictions)
        measured = fit.critical_batch
        verdict = "within" if measured.low <= weighted <= measured.high else "below" if weighted < measured.low else "above"
        near = weighted / NEAR <= size <= weighted * NEAR
        counts = "" if near else f"; it does not count, for it was measured more than a factor of {NEAR:g} from it"
        out.append(
            f"{start}: the noise scale of {runs} run{'s' if runs > 1 else ''} at batch size {_count(size)} predicts "
            f"{_count(weighted)} (mean over progress; {_count(naive)} over updates), {weighted / measured.value:.2g} times the measured "
            f"one, {verdict} its interval{counts}."
        )
    return out


def _shape(fit: Hyperbola) -> str:
    if fit.knee is None:
        return "the shape is not tested: too few batch sizes, or steps too scattered, to tell the sharpness of the knee."
    if fit.rejected:
        sharper = "sharper" if fit.knee.value > 1 else "softer"
        return f"hyperbola rejected: its knee is {sharper}, exponent {_between(fit.knee, digits=2)} instead of 1."
    return f"the hyperbola is not rejected: exponent of its knee {_between(fit.knee, digits=2)}."


def _flags(curve: CurveStudy, start: str) -> list[str]:
    """Returns what is to be careful about."""
    from gapbench.analysis.critical_batch.study import DENSE

    out = []
    missing = sum(len(one.censored) for one in curve.chosen)
    if missing:
        robust = f"; counted as longer than they trained, it is {_between(curve.with_censored)}" if curve.with_censored else ""
        out.append(f"{start}: {missing} of {missing + len(curve.points)} runs at the best rates did not reach it and are left out{robust}.")
    edges = [f"{_count(one.batch_size)} ({one.at_edge})" for one in curve.chosen if one.at_edge]
    if edges:
        out.append(
            f"{start}: the best learning rate is the end of its range at batch size {', '.join(edges)}: a better one may lie beyond."
        )
    budget = unequal_budget(curve.chosen)
    if budget:
        listed = ", ".join(f"{_count(size)}: {number}" for size, number in budget.items())
        out.append(f"{start}: batch sizes were given unequal numbers of learning rates ({listed}), which bends the curve.")
    elif curve.chosen and curve.chosen[0].rates == 1 and curve.statistics:
        out.append(f"{start}: one learning rate for each batch size: how good it is for its batch size is not known.")
    if curve.spacing is not None and curve.spacing > DENSE:
        out.append(
            f"{start}: evaluations around the passage lie up to {100 * curve.spacing:.0f} % of the steps apart; set evaluations in [run]."
        )
    if curve.early:
        which = "1 run was below it at its" if curve.early == 1 else f"{curve.early} runs were below it at their"
        out.append(f"{start}: {which} first evaluation and {'is' if curve.early == 1 else 'are'} left out.")
    if curve.statistics == "running":
        out.append(f"{start}: evaluated with running norm statistics, which lag behind the weights and count against large batches.")
    return out


def _between(found: Interval, digits: int = 0) -> str:
    low, value, high = (_count(number) if digits == 0 else f"{number:.{digits}f}" for number in (found.low, found.value, found.high))
    return f"{value} (95 % interval {low} to {high})"


def _count(value: float) -> str:
    """Returns a number of examples or updates with at least three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sizes(number: int) -> str:
    return f"{number or 'no'} batch size{'' if number == 1 else 's'}"
