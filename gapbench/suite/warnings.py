"""What a plan warns of: suites that can be run, but whose comparison is not what it looks like."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence

from gapbench.suite.batches import phase_starts
from gapbench.suite.rate import UNTUNED
from gapbench.suite.runspec import PlannedRun

MOST_CELLS, SHOWN_CELLS = 8, 4
"""A warning about more cells than the first number names as many as the second."""


def warnings_of(runs: Sequence[PlannedRun], no_effect: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the warnings about a plan's runs, each with the cells that it is about."""
    first_of_cell = {run.labels.cell: run for run in reversed(runs)}
    cells = {run.labels.cell: first_of_cell[run.labels.cell] for run in runs}
    found: dict[str, list[str]] = {}
    for what, cell in no_effect:
        if cell in cells:
            found.setdefault(what, []).append(cell)
    for cell, run in cells.items():
        for what in (_short_phase(run), _large_batch(run), _long_warmup(run), _untuned(run)):
            if what:
                found.setdefault(what, []).append(cell)
    return [f"{what}: {_listed(dict.fromkeys(names), len(cells))}" for what, names in found.items()]


def _listed(names: Collection[str], of: int) -> str:
    """Returns the names of the cells that a warning is about; of many the first ones and how many more there are, out of how many."""
    if len(names) <= MOST_CELLS:
        return ", ".join(names)
    if len(names) == of:
        return f"all {of} cells"
    shown = list(names)[:SHOWN_CELLS]
    return f"{', '.join(shown)} and {len(names) - SHOWN_CELLS} more of {of} cells"


def missing_references(runs: Sequence[PlannedRun], *, named: bool) -> list[str]:
    """Returns a warning for every (data set, model) that has no reference cell, so that no batch gap can be given.

    `named` tells whether [report] names the reference cell.
    """
    with_reference = {_workload(run) for run in runs if run.labels.reference_cell}
    without = {_workload(run): run for run in reversed(runs) if _workload(run) not in with_reference}
    texts = []
    for run in reversed(without.values()):
        spec = run.spec
        cells = dict.fromkeys(other.labels.cell for other in runs if _workload(other) == _workload(run))
        wanted = "as in [report]" if named else f"batch size {spec.reference_batch_size}, regime baseline, ghost off"
        texts.append(
            f"no reference cell ({wanted}) for {spec.dataset.name} with {spec.model.name}, "
            f"so tables have no batch gap for: {_listed(cells, len(dict.fromkeys(other.labels.cell for other in runs)))}"
        )
    return texts


def _workload(run: PlannedRun) -> tuple[str, str]:
    return run.spec.dataset.model_dump_json(), run.spec.model.model_dump_json()


def _short_phase(run: PlannedRun) -> str:
    """Momentum reaches its full gain, 1 / (1 - momentum), only after several times that many updates."""
    spec = run.spec
    momentum = float(spec.optimizer.option("momentum", 0.0))
    needed = 10.0 / (1.0 - momentum)
    batches = spec.batches
    starts = [*(phase.start for phase in spec.phases), 1.0]
    lengths = [round((end - start) * spec.updates) for start, end in itertools.pairwise(starts)]
    if batches.grows:
        ends = [batches.updates_at(step) for step in phase_starts(starts, round(batches.all_steps))]
        lengths = [end - start for start, end in itertools.pairwise(ends)]
    if min(lengths) >= needed:
        return ""
    shown = ", ".join(str(length) for length in lengths)
    return f"short phases of {shown} updates: momentum {momentum:g} needs {needed:.0f} updates in each to come to its full effect"


def _large_batch(run: PlannedRun) -> str:
    """Scaling rules assume that the batch is much smaller than the training set."""
    spec = run.spec
    largest = spec.batches.largest
    if 4 * largest <= spec.train_examples:
        return ""
    return (
        f"batch size {largest} is more than a quarter of the {spec.train_examples} training examples, and the scaling rules assume far less"
    )


def _long_warmup(run: PlannedRun) -> str:
    """A warmup that reaches into the second phase never comes to the peak rate."""
    spec = run.spec
    if len(spec.phases) < 2 or spec.warmup <= spec.phases[1].start:
        return ""
    steps = spec.batches.all_steps
    until = round(spec.phases[1].start * steps)
    return f"a warmup of {round(spec.warmup * steps)} updates reaches beyond the first phase of {until}: the run is short for it"


def _untuned(run: PlannedRun) -> str:
    """A preset may say that its learning rates are only where tuning starts."""
    if UNTUNED not in run.labels.learning_rate_rule.split(", "):
        return ""
    return (
        f"preset {run.labels.preset} is untuned: its learning rates are those of the recipe, and a fair comparison tunes them for each cell"
    )
