"""Steps to a target: when a run's loss or error first falls to a value, between two evaluations; or that it never did.

The curve is smoothed over a fixed fraction of the updates reached. A lag in examples would count more steps for small batches than for
large ones and so move the critical batch size up, one in updates would move it down; a fraction multiplies all steps alike.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np

from gapbench.analysis.cells import Cell, Panel, Run
from gapbench.analysis.curves import Curve, Curves, crossing, logarithms, smooth
from gapbench.analysis.formats import large, some
from gapbench.analysis.frames import Columns, grouped, named, records, with_bounds
from gapbench.analysis.rows import SideTable, side_table
from gapbench.analysis.stats import Estimate, t_interval
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import unknown_name

LOSSES = ("train_loss", "validation_loss", "test_loss")
ERRORS = {"train_error": "train_accuracy", "validation_error": "validation_accuracy", "test_error": "test_accuracy"}
METRICS = (*LOSSES, *ERRORS)
"""What a target may be of. Errors are fractions: 1 - accuracy."""
RECALIBRATED = "recalibrated_"
"""Metrics of recalibrated norm statistics begin so; where a suite has them, running statistics would count the large batches' lag."""


class TargetError(GapbenchError):
    """A target that makes no sense."""


@dataclass(frozen=True)
class Target:
    """A value of a metric that falls while training."""

    metric: str
    """One of METRICS."""
    value: float

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise TargetError(unknown_name("target metric", self.metric, METRICS))
        if not 0.0 < self.value < (1.0 if self.metric in ERRORS else np.inf):
            bound = "between 0 and 1" if self.metric in ERRORS else "greater than 0"
            raise TargetError(f"the target {self.metric} must be {bound}, not {self.value:g}")

    def __str__(self) -> str:
        return f"{self.metric.replace('_', ' ')} {self.value:g}"


@dataclass(frozen=True)
class Reached:
    """When a run reached a target."""

    steps: float | None
    """Updates, interpolated between evaluations; None: not reached, or already below at the first evaluation."""
    trained: float
    """Updates up to the last evaluation: where it is censored."""
    spacing: float | None = None
    """Ratio of the updates of the two evaluations around the passage, less 1: what the interpolation goes over."""
    early: bool = False
    """Whether the first evaluation was below the target already, so that the passage was not seen."""


def parse_target(text: str) -> Target:
    """Returns the target that "train_loss=0.1" means.

    Raises:
        TargetError: it does not say one.
    """
    metric, separator, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if not separator or np.isnan(number):
        raise TargetError(f'a target is written METRIC=VALUE, such as train_loss=0.1, not "{text}"')
    return Target(metric.strip(), number)


def steps_to_target(curve: Curve, value: float, *, logarithmic: bool = False) -> Reached:
    """Returns when a curve first falls to `value`: linear against log updates between the two evaluations around it.

    Args:
        curve: of evaluations, in order.
        value: to reach.
        logarithmic: smooth and interpolate the logarithm of the values, as befits losses.
    """
    updates = curve.updates
    values = logarithms(curve.values) if logarithmic else curve.values
    level = np.log(value) if logarithmic else value
    smoothed = smooth(updates, values)
    trained, found = float(updates[-1]), crossing(smoothed, level)
    if found is None:
        return Reached(None, trained)
    after, part = found
    if after == 0:
        return Reached(None, trained, early=True)
    ratio = updates[after] / updates[after - 1]
    return Reached(float(updates[after - 1] * ratio**part), trained, spacing=float(ratio - 1.0))


def passages_of(curves: Curves, target: Target, runs: Sequence[Run]) -> tuple[dict[str, Reached], str]:
    """Returns when runs reached a target, by run id, and the norm statistics of the evaluations; runs that were not evaluated are left out.

    The statistics are the same for all runs: recalibrated where every ok run has them, else running.
    """
    name = ERRORS.get(target.metric, target.metric)
    recalibrated, ok = curves.of(RECALIBRATED + name), [run.run_id for run in runs if run.ok]
    whole = bool(ok) and all(run_id in recalibrated for run_id in ok)
    evaluated = recalibrated if whole else curves.of(name)
    known = {run.run_id: evaluated[run.run_id] for run in runs if run.run_id in evaluated}
    if target.metric in ERRORS:
        reached = {run_id: steps_to_target(Curve(curve.updates, 1.0 - curve.values), target.value) for run_id, curve in known.items()}
    else:
        reached = {run_id: steps_to_target(curve, target.value, logarithmic=True) for run_id, curve in known.items()}
    return reached, "recalibrated" if whole else "running"


# From steps by batch size, learning rate and seed to one rate for each batch size: that with the fewest steps to the target.
#
# Taking the best of several rates makes steps too few by a little, and by the same factor at every batch size only if each was given the
# same number of rates. So the number is checked, and a best rate at the edge of its range is flagged.


@dataclass(frozen=True)
class Passage:
    """One run and one target."""

    batch_size: float
    learning_rate: float
    seed: int
    steps: float | None
    """None: not reached."""
    trained: float
    """Updates that were made: where it is censored."""


@dataclass(frozen=True)
class Chosen:
    """The rate of one batch size."""

    batch_size: float
    learning_rate: float
    steps: tuple[float, ...]
    """Of its seeds that reached the target."""
    censored: tuple[float, ...]
    """Updates of those that did not."""
    rates: int
    """How many were tried."""
    at_edge: str
    """"lowest" or "highest": the best rate is an end of its range, so that a better one may lie beyond. Empty: inside, or only one."""


def choose_rates(passages: Sequence[Passage]) -> list[Chosen]:
    """Returns the best rate of every batch size, ascending, by the median of its seeds' steps.

    A rate at which some seed did not reach the target is chosen only where no rate takes all seeds there.
    """
    by_cell = grouped(((passage.batch_size, passage.learning_rate), passage) for passage in passages)
    out = []
    for size in sorted({size for size, _ in by_cell}):
        rates = sorted(rate for other, rate in by_cell if other == size)
        best = min(rates, key=lambda rate: _score(by_cell[size, rate]))
        edge = "" if len(rates) == 1 else "lowest" if best == rates[0] else "highest" if best == rates[-1] else ""
        own = by_cell[size, best]
        steps = tuple(passage.steps for passage in own if passage.steps is not None)
        censored = tuple(passage.trained for passage in own if passage.steps is None)
        out.append(Chosen(size, best, steps, censored, len(rates), edge))
    return out


def unequal_budget(chosen: Sequence[Chosen]) -> Mapping[float, int]:
    """Returns the number of rates by batch size where they are not all the same; else nothing."""
    counts = {one.batch_size: one.rates for one in chosen}
    return counts if len(set(counts.values())) > 1 else {}


def _score(own: Sequence[Passage]) -> tuple[float, float]:
    """Returns what the best rate has least of: seeds that did not reach the target, then the median of the steps."""
    steps = [passage.steps for passage in own if passage.steps is not None]
    missing = 1.0 - len(steps) / len(own)
    return missing, median(steps) if steps else math.inf


# Steps to a target from anywhere: a CSV file of batch sizes and steps, one curve or several.

BATCH, STEPS = "batch_size", "steps"
SERIES, RATE, SEED, TRAINED = "series", "learning_rate", "seed", "trained"
FILE_COLUMNS = (SERIES, BATCH, STEPS, RATE, SEED, TRAINED)


class SeriesError(GapbenchError):
    """A file that does not hold steps by batch size."""


def read_series(path: Path) -> Mapping[str, list[Passage]]:
    """Returns the runs of every curve in a CSV file with a heading.

    Columns: `batch_size` and `steps` (empty: the target was not reached); if wanted `series` (name of the curve), `learning_rate`, `seed`
    and, for runs that did not reach the target, `trained` (steps that they made).

    Raises:
        SeriesError: a column is missing, or a line is mistaken; it is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            heading = [name.strip() for name in lines.fieldnames or ()]
            lines.fieldnames = heading
            rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SeriesError(f"{path}: cannot be read as CSV: {error}") from error
    missing = [name for name in (BATCH, STEPS) if name not in heading]
    unknown = [name for name in heading if name not in FILE_COLUMNS]
    if missing or unknown:
        found = f"lacks {' and '.join(missing)}" if missing else f"has the unknown column {unknown[0]}"
        raise SeriesError(f"{path}: {found}; columns are {', '.join(FILE_COLUMNS)}, of which {BATCH} and {STEPS} are needed")
    if not rows:
        raise SeriesError(f"{path}: holds no line but its heading")
    return grouped(((row.get(SERIES) or "").strip() or path.stem, _passage(path, line, row)) for line, row in rows)


def _passage(path: Path, line: int, row: Mapping[str, str | None]) -> Passage:
    size = _number(path, line, row, BATCH)
    steps = _number(path, line, row, STEPS, empty=True)
    trained = _number(path, line, row, TRAINED, empty=True)
    if size is None or (steps is None and trained is None):
        raise SeriesError(f"{path}:{line}: a run that did not reach the target (steps empty) needs {TRAINED}, the steps that it made")
    rate = _number(path, line, row, RATE, empty=True)
    seed = _number(path, line, row, SEED, empty=True, zero=True)
    return Passage(size, rate or 0.0, int(seed or 0), steps, trained if trained is not None else steps or 0.0)


def _number(path: Path, line: int, row: Mapping[str, str | None], name: str, *, empty: bool = False, zero: bool = False) -> float | None:
    text = (row.get(name) or "").strip()
    if not text and empty:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (value > 0.0 or (zero and value == 0.0)) or value == float("inf"):
        raise SeriesError(f'{path}:{line}: {name} must be a number greater than 0, not "{text}"')
    return value


# The side table of a suite's targets: how many updates every cell takes to each, and which runs never get there.

NUMBERS: Columns = {
    **named("dataset", "model", "recipe", of="row.panel"), "cell": "row.cell.name", **named("batch_size", "learning_rate", of="row.cell"),
    "target": "row.target.metric", "target_value": "row.target.value", "runs": "row.runs", "reached": "row.arrived",
    "below_at_first": "row.early", **with_bounds("steps", "row.steps", "mean"), "steps_examples": "row.examples",
    "not_reached_after": "row.stopped", **named("spacing", "statistics", of="row"),
}  # fmt: skip
NOTE = (
    "Updates: geometric mean over the seeds that reached the target, with the 95 % t interval of the logarithm. A passage is interpolated "
    "between two evaluations of the curve, smoothed over a fixed fraction of the updates. Seeds that did not reach it are left out of the "
    "mean, which is then too small: they took more updates than the last column says."
)


@dataclass(frozen=True)
class TargetRow:
    """One cell and one target."""

    panel: Panel
    cell: Cell
    target: Target
    reached: tuple[Reached, ...]
    """Of every ok run that was evaluated for it."""
    statistics: str
    """Norm statistics of the evaluations."""

    @cached_property
    def steps(self) -> Estimate | None:
        """Geometric mean of the updates of the seeds that reached it, with its interval; None: none did."""
        logs = t_interval([float(np.log(one.steps)) for one in self.reached if one.steps])
        if logs is None:
            return None
        low, high = (None if bound is None else float(np.exp(bound)) for bound in (logs.low, logs.high))
        return Estimate(float(np.exp(logs.mean)), low, high, logs.n)

    @property
    def runs(self) -> int:
        """Runs that were evaluated for it."""
        return len(self.reached)

    @property
    def arrived(self) -> int:
        """Runs that reached it."""
        return self.steps.n if self.steps else 0

    @property
    def examples(self) -> float | None:
        """What `steps` come to in examples."""
        return self.steps.mean * self.cell.batch_size if self.steps else None

    @property
    def early(self) -> int:
        """Runs that were below it at their first evaluation, so that the passage was not seen."""
        return sum(one.early for one in self.reached)

    @property
    def censored(self) -> list[float]:
        """Updates of the runs that did not reach it."""
        return [one.trained for one in self.reached if one.steps is None and not one.early]

    @property
    def stopped(self) -> float | None:
        """The fewest of these updates."""
        return min(self.censored, default=None)

    @property
    def spacing(self) -> float | None:
        """Of the evaluations around the passages, at most."""
        return max((one.spacing for one in self.reached if one.spacing is not None), default=None)


def target_table(panels: Sequence[Panel], curves: Curves, targets: Sequence[Target]) -> SideTable | None:
    """Returns the table of steps to targets, or None where no run was evaluated for one.

    Args:
        panels: with their cells.
        curves: `curves.parquet`.
        targets: in the order of the rows.
    """
    found = [(panel, target, _rows(panel, target, curves)) for panel in panels for target in targets]
    rows = [row for _, _, own in found for row in own]
    if not rows:
        return None
    sentences: list[str] = []
    for panel, target, own in found:
        start = f"{panel.title}: {target}" if len(panels) > 1 else f"{str(target)[0].upper()}{str(target)[1:]}"
        sentences += _sentences(start, own) if own else ()
    numbers = records(NUMBERS, ({"row": row} for row in rows))
    return side_table("targets", "Updates to the targets", [*map(_texts, rows)], sentences, (NOTE,), numbers)


def _rows(panel: Panel, target: Target, curves: Curves) -> list[TargetRow]:
    reached, statistics = passages_of(curves, target, [run for cell in panel.cells for run in cell.runs])
    found = [(cell, tuple(reached[run.run_id] for run in cell.ok_runs if run.run_id in reached)) for cell in panel.cells]
    return [TargetRow(panel, cell, target, own, statistics) for cell, own in found if own]


def _sentences(start: str, own: Sequence[TargetRow]) -> Iterator[str]:
    whole = [(row, row.steps.mean, row.examples) for row in own if row.steps and row.examples and not row.censored]
    if whole:
        row, steps, _ = min(whole, key=lambda found: found[1])
        cheap, _, examples = min(whole, key=lambda found: found[2])
        yield (
            f"{start}: fewest updates by {row.cell.name} ({large(steps)}), fewest examples by {cheap.cell.name} ({large(examples)}), of "
            "the cells whose seeds all reached it."
        )
    else:
        yield f"{start}: no cell reached it with all of its seeds."
    missing = [f"{row.cell.name} ({len(row.censored)} of {row.runs} runs)" for row in own if row.censored]
    if missing:
        yield f"{start}: not reached by {some(missing)}."
    if early := sum(row.early for row in own):
        yield f"{start}: {early} run{'s were' if early > 1 else ' was'} below it at the first evaluation, so that the passage was not seen."


def _texts(row: TargetRow) -> dict[str, str]:
    steps = row.steps
    interval = "" if steps is None or steps.low is None or steps.high is None else f" ({large(steps.low)} to {large(steps.high)})"
    return {
        "cell": row.cell.name,
        "target": str(row.target),
        "batch": f"{row.cell.batch_size:,}",
        "learning rate": f"{row.cell.learning_rate:.3g}",
        "reached": f"{row.arrived} of {row.runs}",
        "updates": "" if steps is None else f"{large(steps.mean)}{interval}",
        "examples": "" if row.examples is None else large(row.examples),
        "not reached after": "" if row.stopped is None else f"{large(row.stopped)} updates",
    }
