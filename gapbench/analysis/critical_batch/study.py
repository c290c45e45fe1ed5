"""The analysis of critical batch sizes as a whole: from the two tidy tables, or from curves of steps, to fits, sentences and frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.critical_batch.hyperbola import (
    BRACKET,
    NEAR,
    OVERHEAD,
    FitError,
    Hyperbola,
    Predicted,
    by_batch_size,
    critical_batch_with_censored,
    fit_hyperbola,
    predict,
    read_off,
)
from gapbench.analysis.critical_batch.targets import Chosen, Passage, Target, choose_rates, passages_of, unequal_budget
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import counted, large
from gapbench.analysis.frames import Columns, Row, Study, grouped, named, tidy, with_bounds
from gapbench.analysis.noise_scale import probed_noise, streamed_noise
from gapbench.analysis.stats import Interval
from gapbench.core.events import Outcome
from gapbench.suite.batches import effective_ghost

if TYPE_CHECKING:
    import pandas as pd


ANY_TARGET = "the target"
"""Of series from a file, which do not say it."""
DENSE = 0.02
"""Two evaluations around a passage that are further apart than this share of the steps leave it to the interpolation; that is said."""


@dataclass(frozen=True, eq=False)
class CurveStudy:
    """Steps to one target against batch size."""

    title: str
    """Data set and model, or the series' name."""
    method: str
    """What else its runs share: optimizer, ghost batch size, preset where there are several."""
    target: str
    passages: tuple[Passage, ...]
    """Every run."""
    chosen: tuple[Chosen, ...]
    """The rate of every batch size."""
    fit: Hyperbola | None
    reason: str = ""
    """Why there is no fit."""
    with_censored: Interval | None = None
    """B_crit where runs that did not reach the target count as such; None: there are none, or the likelihood has no summit."""
    statistics: str = ""
    """Norm statistics of the evaluations; empty for series from a file."""
    spacing: float | None = None
    """Of evaluations around the passages, at most, as a share of the steps; None: not known."""
    early: int = 0
    """Runs whose first evaluation was below the target already."""
    predictions: tuple[Predicted, ...] = ()
    """From the noise scale of single runs."""

    @property
    def about(self) -> str:
        """Its title, with its method where there is one."""
        return f"{self.title}, {self.method}" if self.method else self.title

    @property
    def points(self) -> list[tuple[float, float]]:
        """Batch size and steps of every run that the fit rests on."""
        return [(one.batch_size, steps) for one in self.chosen for steps in one.steps]

    @cached_property
    def doubled(self) -> Interval | None:
        """The batch size that takes twice the least examples, read off the steps; None beyond what was measured."""
        return self._read_off(1.0)

    @cached_property
    def with_overhead(self) -> Interval | None:
        """The same of 20 % more than the least examples."""
        return self._read_off(OVERHEAD)

    def _read_off(self, overhead: float) -> Interval | None:
        return read_off([size for size, _ in self.points], [steps for _, steps in self.points], overhead) if self.points else None

    @property
    def lost(self) -> list[tuple[float, float]]:
        """Batch size and updates of every run at the best rates that did not reach the target."""
        return [(one.batch_size, trained) for one in self.chosen for trained in one.censored]


def study_series(name: str, series: Mapping[str, Sequence[Passage]]) -> Study[tuple[CurveStudy, ...]]:
    """Analyses curves of steps from a file."""
    return study_of_curves(name, [_curve(title, "", ANY_TARGET, passages) for title, passages in series.items()])


def study(suite: str, runs: pd.DataFrame, curves: pd.DataFrame, targets: Sequence[Target]) -> Study[tuple[CurveStudy, ...]]:
    """Analyses how many updates the runs of a suite take to each target.

    Cells of a panel that share all but batch size, learning rate and regime are one curve: each batch size then has its best rate.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        targets: in the order of the output.
    """
    found: list[CurveStudy] = []
    notes: list[str] = []
    looked_up = Curves(curves)
    for panel in read_panels(runs):
        groups = _groups(panel)
        for method, cells in groups.items():
            for target in targets:
                made = _of_cells(panel.title, method if len(groups) > 1 else "", cells, target, looked_up)
                if isinstance(made, str):
                    notes.append(f"{panel.title}{f', {method}' if method else ''}: {made}")
                else:
                    found.append(made)
    return study_of_curves(suite, found, notes)


def study_of_curves(suite: str, curves: Sequence[CurveStudy], notes: Sequence[str] = ()) -> Study[tuple[CurveStudy, ...]]:
    """Returns what curves come to, with what could not be analysed, and why."""
    sentences = grouped((curve.about, text) for curve in curves for text in _curve_sentences(curve))
    if notes:
        sentences["Not analysed"] = [f"{note}." for note in notes]
    rows = {
        "passages": (row for curve in curves for row in _passages(curve)),
        "fits": (_fit(curve) for curve in curves),
        "predictions": ({"curve": curve, "one": one} for curve in curves for one in curve.predictions),
    }
    return Study(suite, tuple(curves), sentences, {name: tidy(columns, rows[name]) for name, columns in COLUMNS.items()})


def _groups(panel: Panel) -> dict[str, list[Cell]]:
    """Returns the cells of a panel by what they share besides batch size and learning rate."""

    def method(cell: Cell) -> str:
        ghost = effective_ghost(cell.ghost_batch_size, cell.batch_size) or "off"
        return f"{cell.optimizer}, ghost {ghost}, {cell.preset or 'no preset'}, {cell.precision}"

    return grouped((method(cell), cell) for cell in panel.cells)


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells with every run in one of them: a run that is in the grid and in an arm is one measurement."""
    seen: set[str] = set()
    out = []
    for cell in cells:
        out.append(replace(cell, runs=tuple(run for run in cell.runs if run.run_id not in seen)))
        seen |= cell.run_ids
    return out


def _of_cells(title: str, method: str, cells: Sequence[Cell], target: Target, curves: Curves) -> CurveStudy | str:
    found, statistics = passages_of(curves, target, [run for cell in cells for run in cell.runs])
    passages, spacings, early = [], [], 0
    predicted: list[tuple[float, Predicted]] = []
    for cell in _once(cells):
        # A rate at which a run diverged was tried: it counts in the budget of its batch size, and as a run that did not arrive.
        for run in (run for run in cell.runs if run.outcome == Outcome.DIVERGED):
            before = found.get(run.run_id)
            passages.append(Passage(cell.batch_size, cell.learning_rate, run.seed, None, max(1.0, before.trained if before else 1.0)))
        for run in cell.ok_runs:
            reached = found.get(run.run_id)
            if reached is None:
                return f"{target}: {cell.name} was not evaluated for it"
            if reached.early:
                early += 1
                continue
            if reached.spacing is not None:
                spacings.append(reached.spacing)
            passages.append(Passage(cell.batch_size, cell.learning_rate, run.seed, reached.steps, reached.trained))
            if reached.steps is not None and (one := _predicted(curves, cell, run.run_id, reached.steps)) is not None:
                predicted.append((cell.learning_rate, one))
    if not passages:
        return f"{target}: no run was evaluated before it was reached"
    made = _curve(title, method, str(target), passages)
    best = {(one.batch_size, one.learning_rate) for one in made.chosen}
    return replace(
        made,
        statistics=statistics,
        spacing=max(spacings, default=None),
        early=early,
        predictions=tuple(one for rate, one in predicted if (one.batch_size, rate) in best),
    )


def _predicted(curves: Curves, cell: Cell, run_id: str, last: float) -> Predicted | None:
    """Returns what one run's noise scale predicts; None where it was not measured at two moments or more before the target."""
    found = probed_noise(curves, run_id, cell.train_examples) or streamed_noise(curves, run_id, cell.batch_size, cell.train_examples)
    known = [one for one in found if np.isfinite(one.dataset.value) and one.dataset.value > 0]
    if sum(one.update <= last for one in known) < 2:
        return None
    return predict(np.array([one.update for one in known]), np.array([one.dataset.value for one in known]), cell.batch_size, last)


def _curve(title: str, method: str, target: str, passages: Sequence[Passage]) -> CurveStudy:
    bare = CurveStudy(title, method, target, tuple(passages), tuple(choose_rates(passages)), None)
    sizes, steps = [size for size, _ in bare.points], [value for _, value in bare.points]
    try:
        fit = fit_hyperbola(sizes, steps)
    except FitError as error:
        return replace(bare, reason=str(error))
    robust = critical_batch_with_censored(fit, sizes, steps, *zip(*bare.lost, strict=True)) if bare.lost else None
    return replace(bare, fit=fit, with_censored=robust)


# The numbers of the analysis of critical batch sizes as tidy frames.

CURVE = {"panel": "curve.title", **named("method", "target", of="curve")}
COLUMNS: dict[str, Columns] = {
    "passages": {
        **CURVE, "batch_size": "one.batch_size", "learning_rate": "rate", **named("seed", "steps", "trained", of="one"),
        **named("examples", "chosen"),
    },
    "fits": {
        **CURVE, **with_bounds("critical_batch", "curve.fit.critical_batch"), "critical_batch_20_percent": "curve.fit.overhead_batch",
        **with_bounds("smallest_steps", "curve.fit.smallest_steps"), "smallest_examples": "curve.fit.smallest_examples",
        **with_bounds("knee", "curve.fit.knee"), **named("rejected", "extrapolated", of="curve.fit"),
        **with_bounds("doubled_examples_batch", "curve.doubled"),
        **with_bounds("overhead_batch", "curve.with_overhead"), **named("residual", "n", of="curve.fit"),
        **named("batch_sizes"), **with_bounds("critical_batch_with_censored", "curve.with_censored"), **named("statistics", "reason"),
    },
    "predictions": {
        **CURVE, "batch_size": "one.batch_size", "predicted": "one.weighted", "predicted_naive": "one.naive",
        **named("smallest_steps", "smallest_examples", "counts", of="one"),
    },
}  # fmt: skip
"""Columns of each frame."""


def _fit(curve: CurveStudy) -> Row:
    sizes = len(curve.fit.batch_sizes) if curve.fit else None
    return {"curve": curve, "batch_sizes": sizes, "statistics": curve.statistics or None, "reason": curve.reason or None}


def _passages(curve: CurveStudy) -> Iterator[Row]:
    best = {one.batch_size: one.learning_rate for one in curve.chosen}
    for one in curve.passages:
        examples = None if one.steps is None else one.steps * one.batch_size
        chosen = best[one.batch_size] == one.learning_rate
        yield {"curve": curve, "one": one, "rate": one.learning_rate or None, "examples": examples, "chosen": chosen}


# What can be concluded of critical batch sizes: sentences, each with its interval and what it rests on.


def _curve_sentences(curve: CurveStudy) -> Iterator[str]:
    start = f"{curve.target[0].upper()}{curve.target[1:]}"
    if curve.fit is None:
        yield f"{start}: no critical batch size: {curve.reason}."
        yield from _flags(curve, start)
        return
    fit = curve.fit
    runs = f"n = {fit.n} runs at {len(fit.batch_sizes)} batch sizes, {large(fit.batch_sizes[0])} to {large(fit.batch_sizes[-1])}"
    fitted = f"critical batch size {_between(fit.critical_batch)} examples ({runs}), at twice the least examples and twice the least steps"
    zhang = f"by the definition of 20 % more examples (Zhang et al. 2024) {large(fit.overhead_batch)}"
    read = f"{start}: read off the steps, without a curve, twice the least examples are taken at {_read(curve.doubled)}"
    if not fit.rejected:
        yield f"{start}: {fitted} (McCandlish et al. 2018); {zhang}."
    yield f"{read}; 20 % more at {_read(curve.with_overhead)}{f' ({runs})' if fit.rejected else ''}."
    if fit.rejected:
        yield f"{start}: by the hyperbola, which is rejected, {fitted.removeprefix('critical batch size ')}; {zhang}."
    yield (
        f"{start}: at least {_between(fit.smallest_steps)} updates however large the batch, at least "
        f"{large(fit.smallest_examples)} examples however small; mean log steps stray {100 * fit.residual:.1f} % about the fit."
    )
    yield f"{start}: {_shape(fit)}"
    if fit.extrapolated:
        yield (
            f"{start}: extrapolated: {_sizes(fit.below)} at or below a quarter of it and {_sizes(fit.above)} at or above {BRACKET:g} times "
            "it, where two on either side would hold it."
        )
    yield from _prediction_sentences(curve, start, fit.critical_batch)
    yield from _flags(curve, start)


def _prediction_sentences(curve: CurveStudy, start: str, measured: Interval) -> Iterator[str]:
    """Yields what the noise scale of single runs predicts, by the batch size that it was measured at."""
    for one in by_batch_size(curve.predictions):
        verdict = "below" if one.weighted < measured.low else "above" if one.weighted > measured.high else "within"
        counts = "" if one.counts else f"; it does not count, for it was measured more than a factor of {NEAR:g} from it"
        yield (
            f"{start}: the noise scale of {counted(one.runs, 'run')} at batch size {large(one.batch_size)} predicts {large(one.weighted)} "
            f"(mean over progress; {large(one.naive)} over updates), {one.weighted / measured.value:.2g} times the measured one, {verdict} "
            f"its interval{counts}."
        )


def _shape(fit: Hyperbola) -> str:
    if fit.knee is None:
        return "the shape is not tested: too few batch sizes, or steps too scattered, to tell the sharpness of the knee."
    if fit.rejected:
        sharper = "sharper" if fit.knee.value > 1 else "softer"
        return f"hyperbola rejected: its knee is {sharper}, exponent {_between(fit.knee, digits=2)} instead of 1."
    return f"the hyperbola is not rejected: exponent of its knee {_between(fit.knee, digits=2)}."


def _flags(curve: CurveStudy, start: str) -> Iterator[str]:
    """Yields what is to be careful about."""
    if missing := len(curve.lost):
        robust = f"; counted as longer than they trained, it is {_between(curve.with_censored)}" if curve.with_censored else ""
        yield f"{start}: {missing} of {missing + len(curve.points)} runs at the best rates did not reach it and are left out{robust}."
    edges = [f"{large(one.batch_size)} ({one.at_edge})" for one in curve.chosen if one.at_edge]
    if edges:
        yield f"{start}: the best learning rate is the end of its range at batch size {', '.join(edges)}: a better one may lie beyond."
    if budget := unequal_budget(curve.chosen):
        listed = ", ".join(f"{large(size)}: {number}" for size, number in budget.items())
        yield f"{start}: batch sizes were given unequal numbers of learning rates ({listed}), which bends the curve."
    elif curve.chosen and curve.chosen[0].rates == 1 and curve.statistics:
        yield f"{start}: one learning rate for each batch size: how good it is for its batch size is not known."
    if curve.spacing is not None and curve.spacing > DENSE:
        yield f"{start}: evaluations around the passage lie up to {100 * curve.spacing:.0f} % of the steps apart; set evaluations in [run]."
    if curve.early:
        which = "1 run was below it at its" if curve.early == 1 else f"{curve.early} runs were below it at their"
        yield f"{start}: {which} first evaluation and {'is' if curve.early == 1 else 'are'} left out."
    if curve.statistics == "running":
        yield f"{start}: evaluated with running norm statistics, which lag behind the weights and count against large batches."


def _between(found: Interval, digits: int = 0) -> str:
    low, value, high = (large(number) if digits == 0 else f"{number:.{digits}f}" for number in (found.low, found.value, found.high))
    return f"{value} (95 % interval {low} to {high})"


def _read(found: Interval | None) -> str:
    if found is None:
        return "no measured batch size"
    spread = "one run each" if np.isnan(found.low) else f"spread of seeds {large(found.low)} to {large(found.high)}"
    return f"batch size {large(found.value)} ({spread})"


def _sizes(number: int) -> str:
    return counted(number, "batch size") if number else "no batch sizes"
