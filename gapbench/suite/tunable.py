"""A suite whose cells can be resolved once more with other values: what tuning makes its trials from.

A trial goes through the very steps that a run of the tuned suite will go through (merging, regime, budget, warmup), so that the values
that a trial had are the values that the run gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gapbench import catalog
from gapbench.core.errors import Problem, SuiteError
from gapbench.suite.layers import Layer, Settings
from gapbench.suite.load import Suite, load_parts
from gapbench.suite.mistakes import without_repeats
from gapbench.suite.plan import Draft, expand, overridden
from gapbench.suite.resolve import Resolver
from gapbench.suite.runspec import PlannedRun, RunSpec
from gapbench.suite.schema import SEEDS, TuneSection
from gapbench.suite.sections import Sections
from gapbench.suite.source import Document
from gapbench.suite.toml import KeyPath


@dataclass(frozen=True)
class TunableCell:
    """A cell of a suite."""

    name: str
    run: PlannedRun
    """Its first run, as the suite has it."""
    where: Mapping[str, Any]
    """The conditions of an [[override]] that means this cell and no other: its arm, and its values of the grid's axes."""
    settings: Settings = field(repr=False)
    base: KeyPath = field(repr=False)
    """The section that it comes from."""


@dataclass(frozen=True)
class Tunable:
    """A loaded suite, cell by cell."""

    suite: Suite
    cells: tuple[TunableCell, ...]
    tune: TuneSection
    changed: Mapping[str, Any]
    """What `--set` options say, as the tables of a suite file."""
    _sections: Sections = field(repr=False)
    _document: Document = field(repr=False)

    def trial(self, cell: TunableCell, values: Mapping[str, Any], *, seed: int, holdout: float, fold: int) -> RunSpec:
        """Returns a run of a cell with other values, that keeps a part of the training set for its score and leaves the test set alone.

        Args:
            cell: of this suite.
            values: fields of a run, as in the `set` of an [[override]].
            seed: of its weights and order; the split stays the suite's own.
            holdout: fraction of the training set that is held out.
            fold: which of the parts of that size.

        Raises:
            SuiteError: the values do not fit the cell.
        """
        own = {"seed": seed, "init_seed": "seed", "order_seed": "seed", "split_seed": cell.run.spec.split_seed, "holdout": holdout}
        layer = Layer("override", ("tune",), {**values, **own})
        document = replace(self._document, problems=[])
        resolver = Resolver(document, self._sections.regimes)
        spec = resolver.resolve(cell.settings.with_layer(layer), cell.base, cell.name)
        resolver.add_misfits()
        if document.problems or spec is None:
            told = [Problem(problem.place, f"{problem.message} (in the trials of {cell.name})") for problem in document.problems]
            raise SuiteError(without_repeats(dict.fromkeys(told)))
        return spec.model_copy(update={"fold": fold, "test_evaluation": False, "keep_weights": (), "probes": ()})

    def problem(self, path: KeyPath, message: str) -> SuiteError:
        """Returns an error about a place of the suite's file."""
        return SuiteError([Problem(self._document.place(path), message)])


def load_tunable(path: str | Path, *, settings: Mapping[str, str] | None = None, plugins: Iterable[str | Path] = ()) -> Tunable:
    """Loads a suite for tuning.

    Raises:
        SuiteError: the suite is wrong, or it cannot be tuned: seeds draw their own test sets, or an axis of the grid is searched.
        GapbenchError: a plugin cannot be loaded.
    """
    suite, sections, document = load_parts(path, settings=settings, plugins=plugins)
    first: dict[str, PlannedRun] = {}
    for planned in suite.runs:
        first.setdefault(planned.labels.cell, planned)
    cells: dict[str, TunableCell] = {}
    for draft in expand(sections):
        cell = draft.labels.cell
        if cell in first and cell not in cells:
            cells[cell] = TunableCell(cell, first[cell], _where(draft, document), overridden(draft, sections, set()), draft.base)
    changed = document.sources[-1].data if settings else {}
    tunable = Tunable(suite, tuple(cells.values()), sections.tune, changed, sections, document)
    _check(tunable, sections, document)
    return tunable


def _where(draft: Draft, document: Document) -> dict[str, Any]:
    axes: dict[str, Any] = {}
    for layer in draft.settings.layers:
        if layer.kind == "grid" and layer.path[1] not in SEEDS:
            _, axis, index = layer.path
            axes[str(axis)] = document.data["grid"][axis][index]
    return {"arm": draft.labels.arm, **axes}


def _check(tunable: Tunable, sections: Sections, document: Document) -> None:
    searched = tunable.tune.search
    for name in searched:
        if name in sections.grid:
            document.mistake(("grid", name), f"{name} is an axis of the grid and is searched by [tune]; remove it from one of them")
    if "phases" in sections.grid:
        document.mistake(("grid", "phases"), "an axis of phases cannot be tuned; write each schedule as an [[arm]]")
    drawn = {run.spec.split_seed for run in tunable.suite.runs if catalog.datasets()[run.spec.dataset.name].split == "drawn"}
    if len(drawn) > 1:
        message = (
            "every seed draws its own test set here, so what is tuned on the training set of one seed would know test examples of another; "
            "fix the split for tuning: split_seed = 0 in [run], or --set split_seed=0"
        )
        document.mistake(("run",), message)
    unlabelled = [cell for cell in tunable.cells if catalog.task_of(cell.run.spec.model.name).headline.name != "accuracy"]
    if unlabelled:
        message = (
            f"rates are chosen by the accuracy on held-out examples, and the model {unlabelled[0].run.spec.model.name} classifies nothing; "
            "give its rates as an axis, [grid] learning_rate = [...], and compare test losses"
        )
        document.mistake(("run",), message)
    for cell in tunable.cells if "momentum" in searched else ():
        optimizer = cell.run.spec.optimizer
        if optimizer.option("momentum") is None:
            message = f'momentum is searched, and the optimizer "{optimizer.name}" of {cell.name} has none; remove it from search'
            document.mistake(("tune", "search"), message)
    for name in ("momentum", "weight_decay"):
        fixed = [cell.name for cell in tunable.cells if any(getattr(phase, name) is not None for phase in cell.run.spec.phases)]
        if name in searched and fixed:
            what = f"{name} is searched, and the phases of {', '.join(fixed)} set it themselves"
            document.mistake(("tune", "search"), f"{what}; remove it from search or from the phases")
    if any(run.labels.alternative_to for run in tunable.suite.runs):
        document.mistake((), "the suite is tuned already: it has arms with alternative_to; tune the suite that it extends")
    if document.problems:
        raise SuiteError(document.problems)
