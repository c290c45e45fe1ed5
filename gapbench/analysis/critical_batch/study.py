"""The analysis of critical batch sizes as a whole: from the two tidy tables, or from curves of steps, to fits, sentences and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.critical_batch.censored import critical_batch_with_censored
from gapbench.analysis.critical_batch.hyperbola import FitError, Hyperbola, Interval, fit_hyperbola
from gapbench.analysis.critical_batch.prediction import Predicted, predict
from gapbench.analysis.critical_batch.rates import Chosen, Passage, choose_rates
from gapbench.analysis.critical_batch.targets import Evaluations, Target
from gapbench.analysis.curves import Curves
from gapbench.analysis.noise_scale.curves import NoiseCurves
from gapbench.core.outcome import Outcome

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
    def points(self) -> tuple[tuple[float, float], ...]:
        """Batch size and steps of every run that the fit rests on."""
        return tuple((one.batch_size, steps) for one in self.chosen for steps in one.steps)


@dataclass(frozen=True, eq=False)
class Study:
    """Critical batch sizes of a suite or of a file."""

    suite: str
    curves: tuple[CurveStudy, ...]
    notes: tuple[str, ...] = field(default=())
    """What could not be analysed, and why."""

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """What can be concluded, by data set and model (or series): each with its interval."""
        from gapbench.analysis.critical_batch.sentences import sentences_of

        return sentences_of(self)

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The numbers as tidy frames: passages, fits."""
        from gapbench.analysis.critical_batch.frames import frames_of

        return frames_of(self)

    def __repr__(self) -> str:
        return f"Study({self.suite!r}: {len(self.curves)} curves of steps against batch size)"


def study_series(name: str, series: Mapping[str, Sequence[Passage]]) -> Study:
    """Analyses curves of steps from a file."""
    return Study(name, tuple(_curve(title, "", ANY_TARGET, passages) for title, passages in series.items()))


def study(suite: str, runs: pd.DataFrame, curves: pd.DataFrame, targets: Sequence[Target]) -> Study:
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
    noise = NoiseCurves(looked_up)
    for panel in read_panels(runs):
        groups = _groups(panel)
        for method, cells in groups.items():
            for target in targets:
                made = _of_cells(panel.title, method if len(groups) > 1 else "", cells, target, looked_up, noise)
                if isinstance(made, str):
                    notes.append(f"{panel.title}{f', {method}' if method else ''}: {made}")
                else:
                    found.append(made)
    return Study(suite, tuple(found), tuple(notes))


def _groups(panel: Panel) -> dict[str, list[Cell]]:
    """Returns the cells of a panel by what they share besides batch size and learning rate."""
    groups: dict[str, list[Cell]] = {}
    for cell in panel.cells:
        ghost = "ghost off" if cell.ghost_batch_size in (None, cell.batch_size) else f"ghost {cell.ghost_batch_size}"
        groups.setdefault(f"{cell.optimizer}, {ghost}, {cell.preset or 'no preset'}, {cell.precision}", []).append(cell)
    return groups


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells with every run in one of them: a run that is in the grid and in an arm is one measurement."""
    seen: set[str] = set()
    out = []
    for cell in cells:
        out.append(replace(cell, runs=tuple(run for run in cell.runs if run.run_id not in seen)))
        seen |= cell.run_ids
    return out


def _of_cells(title: str, method: str, cells: Sequence[Cell], target: Target, curves: Curves, noise: NoiseCurves) -> CurveStudy | str:
    runs = [run for cell in cells for run in cell.ok_runs]
    evaluations = Evaluations(curves, target, runs)
    passages, spacings, early = [], [], 0
    predicted: list[tuple[float, Predicted]] = []
    for cell in _once(cells):
        # A rate at which a run diverged was tried: it counts in the budget of its batch size, and as a run that did not arrive.
        for run in (run for run in cell.runs if run.outcome == Outcome.DIVERGED):
            before = evaluations.reached(run.run_id)
            passages.append(Passage(cell.batch_size, cell.learning_rate, run.seed, None, max(1.0, before.trained if before else 1.0)))
        for run in cell.ok_runs:
            reached = evaluations.reached(run.run_id)
            if reached is None:
                return f"{target}: {cell.name} was not evaluated for it"
            if reached.early:
                early += 1
                continue
            if reached.spacing is not None:
                spacings.append(reached.spacing)
            passages.append(Passage(cell.batch_size, cell.learning_rate, run.seed, reached.steps, reached.trained))
            if reached.steps is not None and (one := _predicted(noise, cell, run.run_id, reached.steps)) is not None:
                predicted.append((cell.learning_rate, one))
    if not passages:
        return f"{target}: no run was evaluated before it was reached"
    made = _curve(title, method, str(target), passages)
    best = {(one.batch_size, one.learning_rate) for one in made.chosen}
    return CurveStudy(
        **{name: getattr(made, name) for name in ("title", "method", "target", "passages", "chosen", "fit", "reason", "with_censored")},
        statistics=evaluations.statistics,
        spacing=max(spacings, default=None),
        early=early,
        predictions=tuple(one for rate, one in predicted if (one.batch_size, rate) in best),
    )


def _predicted(noise: NoiseCurves, cell: Cell, run_id: str, last: float) -> Predicted | None:
    """Returns what one run's noise scale predicts; None where it was not measured at two moments or more before the target."""
    found = noise.probed(run_id, cell.train_examples) or noise.streamed(run_id, cell.batch_size, cell.train_examples)
    known = [one for one in found if np.isfinite(one.dataset.value) and one.dataset.value > 0]
    if sum(one.update <= last for one in known) < 2:
        return None
    return predict(np.array([one.update for one in known]), np.array([one.dataset.value for one in known]), cell.batch_size, last)


def _curve(title: str, method: str, target: str, passages: Sequence[Passage]) -> CurveStudy:
    chosen = tuple(choose_rates(passages))
    bare = CurveStudy(title, method, target, tuple(passages), chosen, None)
    sizes, steps = [size for size, _ in bare.points], [value for _, value in bare.points]
    try:
        fit = fit_hyperbola(sizes, steps)
    except FitError as error:
        return CurveStudy(title, method, target, tuple(passages), chosen, None, str(error))
    censored = [(one.batch_size, trained) for one in chosen for trained in one.censored]
    robust = None
    if censored:
        robust = critical_batch_with_censored(fit, sizes, steps, [size for size, _ in censored], [value for _, value in censored])
    return CurveStudy(title, method, target, tuple(passages), chosen, fit, with_censored=robust)
