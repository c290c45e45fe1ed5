"""The rows of `runs.parquet` as cells (everything but the seed), grouped into panels whose cells may be compared with one another."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.analysis.frames import grouped
from gapbench.analysis.stats import Difference, Estimate, difference, t_interval
from gapbench.catalog import Metric
from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store.schema import with_records
from gapbench.suite.change import Change, rate_rule, reference_among

if TYPE_CHECKING:
    import pandas as pd


@cache
def numbers() -> tuple[str, ...]:
    """Returns the columns of `runs.parquet` that a cell can be averaged over: every metric on every split, and what probes leave."""
    measured = (metric.column(split) for metric in catalog.metrics().values() for split in catalog.SPLITS)
    return (*measured, "weight_distance", "clipped_share", "clipped_share_late")


@dataclass(frozen=True, eq=False)
class Run:
    """One row of `runs.parquet`, as far as tables and figures need it."""

    run_id: str
    seed: int
    split_seed: int
    outcome: Outcome
    numbers: Mapping[str, float]
    """The columns `numbers()`; those not measured are left out."""
    test_correct: bytes = field(default=b"", repr=False)
    """Which test examples were right at the end, as bits; empty where that was not recorded."""
    reason: str = ""
    """Why it did not end ok, or ended early."""
    train_seconds: float | None = None
    replicas: int = 1
    """Of the stack that it was trained in: all of them have the seconds of the stack."""

    @cached_property
    def ok(self) -> bool:
        """Whether the run ended ok and has what runs of its task are compared by, on the test examples."""
        return self.outcome == Outcome.OK and catalog.measured_task(self.numbers).headline.column("test") in self.numbers


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """Runs that differ only in their seeds, with what they share; defaults are of columns that older tables lack."""

    name: str
    arm: str = ""
    """Label of the arm; empty for a cell of the grid."""
    order: int
    reference: bool
    recipe: str = ""
    preset: str = ""
    batch_size: int
    regime: str = "baseline"
    ghost_batch_size: int | None
    """None: off, the whole batch."""
    optimizer: str = ""
    precision: str = "fp32"
    learning_rate: float
    learning_rate_rule: str = "untouched"
    momentum_reset: str = "never"
    """`epoch` where the optimizer forgets its state at every epoch, else `never`."""
    change: Change
    """What was changed against the recipe, as data."""
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The effective values of its runs, seeds left out, by key such as `model.widths`; empty where they were not recorded."""
    words: Mapping[str, str]
    """What its name is put together from: the label of its `arm` and, by field, a word for each axis that varies."""
    planned_updates: int
    """Of a run whose batch follows the noise scale only an estimate."""
    planned_examples: int
    """That a run of this cell sees."""
    reference_batch_size: int
    reference_updates: int
    reference_examples: int
    """That the recipe's own budget comes to at the reference batch size."""
    train_examples: int
    """Size of the training set, without the held-out part."""
    split_drawn: bool
    """Whether each seed draws its own split: differences are then paired, and intervals are over splits."""
    runs: tuple[Run, ...] = field(repr=False)
    held_against: str = ""
    """Name of the cell that the suite holds it against; empty: the panel's reference cell."""
    alternative_to: str = ""
    """Name of the cell whose values might as well be its own; empty: a cell by itself."""
    adaptive: bool = False
    """Whether its batch size follows the noise scale, so that its updates follow from what is measured."""
    axes: Mapping[str, str] = field(default_factory=dict)
    """Its levels on the axes of the suite's grid, seeds left out, by field."""

    @property
    def scaling_rule(self) -> str:
        """How the regime sets the learning rate: without what else multiplies it."""
        return self.change.learning_rate_rule

    @property
    def method(self) -> tuple[str, str, str]:
        """Preset, optimizer and precision: cells that differ in them are seldom compared."""
        return self.preset, self.optimizer, self.precision

    @cached_property
    def ok_runs(self) -> tuple[Run, ...]:
        """The runs whose numbers count."""
        return tuple(run for run in self.runs if run.ok)

    @property
    def complete(self) -> bool:
        """Whether every planned seed is ok; otherwise the cell gets no verdict."""
        return len(self.ok_runs) == len(self.runs)

    @cached_property
    def run_ids(self) -> frozenset[str]:
        """The ids of its runs, of whatever outcome. Cells of equal ids are one under two names, such as an arm that is in the grid, too."""
        return frozenset(run.run_id for run in self.runs)

    @property
    def diverged(self) -> bool:
        """Whether a run of it diverged."""
        return any(run.outcome is Outcome.DIVERGED for run in self.runs)

    def sample(self, values: Mapping[str, float]) -> dict[int, float]:
        """Returns values of ok runs (by run id) as a sample: one per split where seeds draw a split (runs on the same split averaged).

        Keys are split seeds then, else positions. Runs without a value are left out.
        """
        found = {key: [values[run_id] for run_id in ids if run_id in values] for key, ids in self.groups.items()}
        return {key: math.fsum(own) / len(own) for key, own in found.items() if own}

    @cached_property
    def groups(self) -> dict[int, list[str]]:
        """The ids of the ok runs, grouped by what counts as one value: split seeds where seeds draw a split, else each run by itself."""
        return grouped((run.split_seed if self.split_drawn else position, run.run_id) for position, run in enumerate(self.ok_runs))

    def column(self, name: str) -> dict[int, float]:
        """Returns the sample of one of `numbers()` over the ok runs."""
        return self.sample({run.run_id: run.numbers[name] for run in self.runs if name in run.numbers})

    def estimate(self, name: str) -> Estimate | None:
        """Returns mean and interval of one of `numbers()` over the ok runs; None where none has it."""
        return t_interval([*self.column(name).values()])

    def mean(self, name: str) -> float | None:
        """Returns the mean of one of `numbers()` over the ok runs; None where none has it."""
        values = self.column(name).values()
        return sum(values) / len(values) if values else None

    def ok_of(self) -> str:
        """Returns "7 ok of 8, 1 diverged", or "8 ok of 8"."""
        others = Counter(run.outcome for run in self.runs if not run.ok)
        named = [f"{others[outcome]} {_word(outcome)}" for outcome in Outcome if others[outcome]]
        return ", ".join([f"{len(self.ok_runs)} ok of {len(self.runs)}", *named])


PanelKey = tuple[str, str, str, str, str]
"""Data set, its options, model, its options, recipe."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Cells that may be compared: same data set, model (options included) and recipe."""

    title: str
    dataset: str
    dataset_options: str
    model: str
    model_options: str
    recipe: str
    cells: tuple[Cell, ...]
    alternatives: tuple[Cell, ...] = ()
    """Cells whose values might as well be those of one of `cells`, such as rates that tuning could not tell from the best one."""

    @cached_property
    def metric(self) -> Metric:
        """What its cells are compared by: the headline of the task that its ok runs have values of."""
        return catalog.measured_task(name for cell in self.cells for run in cell.ok_runs for name in run.numbers).headline

    @property
    def about(self) -> dict[str, str]:
        """What all its cells train, as columns of a table."""
        return {"dataset": self.dataset, "model": self.model, "recipe": self.recipe}

    def reference_of(self, cell: Cell) -> Cell | None:
        """Returns the cell that a cell is held against; None where there is none."""
        return reference_among(cell, self.cells)

    def original_of(self, cell: Cell) -> Cell | None:
        """Returns the cell whose very runs a cell shows again under another name, held against the same; None: its runs are its own.

        Of several names for the same runs the reference cell's is the first, then table order decides.
        """
        same = [other for other in self.cells if other.run_ids == cell.run_ids and other.held_against == cell.held_against]
        first = min(same, key=lambda other: not other.reference)
        return None if first is cell else first

    def choices_of(self, cell: Cell) -> tuple[Cell, ...]:
        """Returns a cell and its alternatives, also where they are known under another name of the same runs.

        An alternative of which a run diverged is none, as in the search, where it is not eligible.
        """
        names = {other.name for other in self.cells if other.run_ids == cell.run_ids}
        return (cell, *(other for other in self.alternatives if other.alternative_to in names and not other.diverged))

    def gap(self, reference: Cell, cell: Cell) -> Difference | None:
        """Returns the batch gap of a cell, in the unit of its gaps: of the cells themselves, with all that their alternatives say inside.

        Its interval reaches over those of every choice for the cell and for the reference, and its p-value is the largest of theirs, or
        1 where two choices disagree about the sign: what is separated from zero is so whichever choice was the right one.
        """
        found = [
            cell_difference(*self.metric.gap_terms(ours, theirs), self.metric)
            for ours in self.choices_of(reference)
            for theirs in self.choices_of(cell)
        ]
        return widest(found)

    def baseline_of(self, cell: Cell) -> Cell | None:
        """Returns the cell of the same batch size with nothing adapted: regime `baseline`, rate untouched, ghost off.

        Among several (a suite may also train one for longer), the one whose number of examples is the recipe's.
        """
        alike = [other for other in self.cells if other.batch_size == cell.batch_size and other.method == cell.method]
        found = [other for other in alike if other.held_against == cell.held_against and unadapted(other)]
        return min(found, key=lambda other: abs(other.planned_examples - other.reference_examples), default=None)


def in_unit(cell: Cell, metric: Metric, split: str = "test") -> dict[int, float]:
    """Returns the sample of a metric in the unit that people are shown it in."""
    return {key: metric.shown(value) for key, value in cell.column(metric.column(split)).items()}


def is_paired(*cells: Cell) -> bool:
    """Whether cells are compared split by split: each seed of theirs draws its own."""
    return all(cell.split_drawn for cell in cells)


def cell_difference(first: Cell, second: Cell, metric: Metric) -> Difference | None:
    """Returns a metric of a first cell on the test examples minus that of a second, in the unit of its gaps."""
    return difference(in_unit(first, metric), in_unit(second, metric), paired=is_paired(first, second))


def widest(choices: Sequence[Difference | None]) -> Difference | None:
    """Returns the first of several differences with the interval and the p-value that hold whichever is the right one.

    None where one of them is none; without an interval where one of them has none.
    """
    found = [choice for choice in choices if choice is not None]
    if len(found) < 2 or len(found) < len(choices):
        return found[0] if len(found) == len(choices) else None
    lows = [choice.low for choice in found if choice.low is not None]
    highs = [choice.high for choice in found if choice.high is not None]
    if len(lows) < len(found):
        return replace(found[0], low=None, high=None, p_value=None)
    judged = [choice.p_value for choice in found if choice.p_value is not None]
    agree = len({choice.estimate > 0 for choice in found}) == 1
    p_value = None if len(judged) < len(found) else max(judged) if agree else 1.0
    return replace(found[0], low=min(lows), high=max(highs), p_value=p_value)


def unadapted(cell: Cell) -> bool:
    """Whether a cell leaves everything as the recipe has it: regime `baseline`, rate untouched, the preset's ghost or none."""
    return cell.change.as_recipe(cell.batch_size, cell.ghost_batch_size) and cell.change.rate_untouched


def read_panels(runs: pd.DataFrame) -> tuple[Panel, ...]:
    """Returns the panels of a runs table, cells in table order.

    A panel has one reference cell for each preset, optimizer and precision. Where none is marked as reference, the definition decides:
    reference batch size, nothing adapted, the reference's number of updates.

    Raises:
        StoreError: the runs are trials of a tuning, which have no test numbers.
    """
    if "test_accuracy" not in runs.columns:
        raise StoreError(
            "these are the trials of `gapbench tune`, which have no test numbers to compare; `gapbench report` shows what they found"
        )
    rows = [{str(name): value for name, value in row.items() if not is_missing(value)} for row in runs.to_dict("records")]
    rows.sort(key=lambda row: (row.get("cell_order", 0), row["cell"], row["seed"], row["run_id"]))
    cells: dict[PanelKey, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        cells.setdefault(_panel_key(row), {}).setdefault(row["cell"], []).append(row)
    return tuple(_panel(_title(key, [*cells]), key, [*map(_cell, own.values())]) for key, own in cells.items())


def _panel(title: str, key: PanelKey, cells: Sequence[Cell]) -> Panel:
    """Returns a panel; an alternative to a cell that is not among these is a cell by itself."""
    names = {cell.name for cell in cells}
    alternatives = tuple(cell for cell in cells if cell.alternative_to in names - {cell.name})
    return Panel(title, *key, _with_rules(_with_references([cell for cell in cells if cell not in alternatives])), alternatives)


def _panel_key(row: Mapping[str, Any]) -> PanelKey:
    dataset, model = row["dataset"], row["model"]
    return dataset, row.get("dataset_options", "{}"), model, row.get("model_options", "{}"), row.get("recipe", "")


SAME = ("arm", "recipe", "preset", "regime", "optimizer", "precision", "learning_rate_rule", "momentum_reset", "change", "words")
COUNTS = ("batch_size", "planned_updates", "reference_batch_size", "reference_updates", "train_examples")
"""Fields of a cell that are columns of the same name, counts without a default."""


def _cell(rows: list[dict[str, Any]]) -> Cell:
    first = with_records(rows[0])
    ghost = first.get("ghost_batch_size")
    same: dict[str, Any] = {name: first[name] for name in SAME if name in first} | {name: int(first[name]) for name in COUNTS}
    return Cell(
        name=first["cell"],
        order=int(first.get("cell_order", 0)),
        reference=bool(first.get("reference_cell", False)),
        ghost_batch_size=None if ghost is None else int(ghost),
        learning_rate=float(first["learning_rate"]),
        # Tables of older versions have no examples: all batches of a run were alike then.
        planned_examples=int(first.get("planned_examples", first["planned_updates"] * first["batch_size"])),
        reference_examples=int(first.get("reference_examples", first["reference_updates"] * first["reference_batch_size"])),
        split_drawn=bool(first.get("split_drawn", False)),
        runs=tuple(map(_run, rows)),
        held_against=first.get("reference", ""),
        alternative_to=first.get("alternative_to") or "",
        adaptive=bool(first.get("adaptive_batch")),
        axes=json.loads(first.get("axes") or "{}"),
        values=json.loads(first.get("values") or "{}"),
        **same,
    )


def _run(row: Mapping[str, Any]) -> Run:
    return Run(
        run_id=row["run_id"],
        seed=int(row["seed"]),
        split_seed=int(row.get("split_seed", row["seed"])),
        outcome=Outcome(row["outcome"]),
        numbers={name: float(row[name]) for name in numbers() if name in row and math.isfinite(row[name])},
        **{name: row[name] for name in ("test_correct", "reason", "train_seconds", "replicas") if name in row},
    )


def _with_references(cells: list[Cell]) -> tuple[Cell, ...]:
    """Marks the reference cells: of those that the suite marks (or else those that the definition names), one for each method.

    Of several, such as one at 4 times the epochs, it is the one that trains as the recipe says.
    """
    marked = [cell for cell in cells if cell.reference] or [cell for cell in cells if _as_recipe(cell) == (True, True, True)]
    chosen: dict[tuple[str, str, str], Cell] = {}
    for cell in marked:
        best = chosen.get(cell.method)
        if best is None or sum(_as_recipe(cell)) > sum(_as_recipe(best)):
            chosen[cell.method] = cell
    return tuple(replace(cell, reference=chosen.get(cell.method) is cell) for cell in cells)


def _with_rules(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Names a rate that is not the reference cell's "set"; tables of earlier versions call one so only where an [[override]] gives it."""
    found = []
    for cell in cells:
        reference, change = reference_among(cell, cells), cell.change
        factors = [one.change.learning_rate_factor for one in (cell, reference) if one]
        if reference and change.learning_rate_rule in ("untouched", "set") and not any(isinstance(factor, str) for factor in factors):
            rates = [one.learning_rate / float(factor) for one, factor in zip((cell, reference), factors, strict=True)]
            change = change.model_copy(update={"learning_rate_rule": rate_rule(change.learning_rate_rule, *rates)})
        found.append(replace(cell, change=change, learning_rate_rule=change.rate_label))
    return tuple(found)


def _as_recipe(cell: Cell) -> tuple[bool, bool, bool]:
    return cell.batch_size == cell.reference_batch_size, unadapted(cell), cell.planned_updates == cell.reference_updates


def _title(key: PanelKey, keys: list[PanelKey]) -> str:
    """Names a panel; options are shown only where panels of the same data set or model differ in them."""
    dataset, dataset_options, model, model_options, recipe = key
    dataset += _differing(dataset_options, [other[1] for other in keys if other[0] == dataset])
    model += _differing(model_options, [other[3] for other in keys if other[2] == model])
    return f"{dataset}, {model}" + (f", recipe {recipe}" if recipe else "")


def _differing(options: str, among: list[str]) -> str:
    own, others = json.loads(options), [json.loads(other) for other in among]
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in own.items()}
    differing = [name for name in own if any(other.get(name) != own[name] for other in others)]
    of_file = ("path", "content") if {"path", "content"} <= {*differing} else ()  # its name tells as much as its hash
    shown = [f"{name} {plain[name]}" for name in differing if name not in of_file]
    return (f" {plain['path']}" if of_file else "") + (f" ({', '.join(shown)})" if shown else "")


def is_missing(value: Any) -> bool:
    """Whether a table has no value there."""
    import pandas as pd

    return value is None or bool(pd.isna(value))


def _word(outcome: Outcome) -> str:
    return {Outcome.OK: "without accuracy", Outcome.SKIPPED: "not started", Outcome.INTERRUPTED: "unfinished"}.get(outcome, str(outcome))
