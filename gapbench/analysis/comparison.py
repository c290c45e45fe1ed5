"""Two results side by side: what was trained otherwise, how every cell differs, and whether that is a regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, Run, in_unit, is_paired, read_panels
from gapbench.analysis.environment import EnvironmentLine, environment_lines
from gapbench.analysis.formats import counted, some
from gapbench.analysis.frames import grouped
from gapbench.analysis.paper import not_comparable, published_value
from gapbench.analysis.stats import LEVEL, NOT_SEPARATED, difference, holm, is_separated, t_quantile, two_sided_p, verdict_on
from gapbench.catalog import Metric, published
from gapbench.core.events import Outcome
from gapbench.suite.runspec import CellValues, differing

if TYPE_CHECKING:
    import pandas as pd

# How one measure of a cell differs between two results: B minus A, with an interval where the seeds allow one.
#
# Differences are paired by split where each seed draws its own split and all splits of one side are in the other; else they are
# Welch's. Where only some splits are shared, Welch's interval is too wide rather than too narrow, since shared splits go up and down
# together. A published single run is held against where one new run of the other side would fall.

Method = Literal["welch", "paired", "prediction", ""]


@dataclass(frozen=True)
class Change:
    """One measure of one cell in A and in B, in the unit of the measure."""

    first: float | None
    """Mean in A; None where there is no value."""
    second: float | None
    n_first: int
    n_second: int
    estimate: float | None = None
    """B minus A; of the shared splits only where it is paired."""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    method: Method = ""
    """`prediction`: a single published value against one new run of the other side."""
    p_holm: float | None = None
    """Adjusted over the cells of the comparison; None where the cell gets no verdict."""

    @property
    def separated(self) -> bool:
        """Whether the difference is separated from zero, over all cells together."""
        return is_separated(self.p_holm)


def change(first: Mapping[int, float], second: Mapping[int, float], *, same_splits: bool) -> Change:
    """Returns the change of a measure between two cells.

    Args:
        first: values in A, by split where seeds draw a split, else by position.
        second: values in B.
        same_splits: whether equal keys are equal splits.
    """
    paired = same_splits and len(set(first) & set(second)) == min(len(first), len(second))
    found = difference(second, first, paired=paired)
    plain = Change(_mean(first), _mean(second), len(first), len(second))
    if found is None:
        return plain
    plain = replace(plain, estimate=found.estimate, method=found.method)
    # Without any spread between seeds there is nothing to make an interval of, though a formula would give one of no width.
    return plain if found.p_value is None else replace(plain, low=found.low, high=found.high, p_value=found.p_value)


def change_from_published(published: float, rounding: float, sample: Sequence[float], *, published_first: bool) -> Change:
    """Returns the change between a published single run and our runs of the same cell; its interval holds one new run of ours.

    The published value's rounding widens the interval. Without interval and p-value below two seeds.

    Args:
        published: the published value.
        rounding: half a unit of its last printed digit.
        sample: our values, one a seed, in the same unit.
        published_first: whether the paper is A.
    """
    ours = np.asarray(sample, dtype=np.float64)
    n, sign = len(ours), 1 if published_first else -1
    mean = float(ours.mean()) if n else None
    plain = Change(published, mean, 1, n) if published_first else Change(mean, published, n, 1)
    if mean is None:
        return plain
    estimate = sign * (mean - published)
    plain = replace(plain, estimate=estimate, method="prediction")
    spread = float(ours.std(ddof=1)) * float(np.sqrt(1 + 1 / n)) if n > 1 else 0.0
    if spread == 0:
        return plain
    half = t_quantile(LEVEL, n - 1) * spread + rounding
    p_value = two_sided_p(max(0.0, abs(estimate) - rounding) / spread, n - 1)
    return replace(plain, low=estimate - half, high=estimate + half, p_value=p_value)


def _mean(sample: Mapping[int, float]) -> float | None:
    return sum(sample.values()) / len(sample) if sample else None


# Which cell of one suite is which cell of another: by label and values, else by values, else by label with other values.


@dataclass(frozen=True)
class Matched:
    """A cell that both results have."""

    first: str
    """Its label in A."""
    second: str
    """Its label in B."""
    values: Mapping[str, tuple[str, str]]
    """Effective values in which they differ, by key; empty where they are one cell."""


@dataclass(frozen=True)
class Matching:
    """The cells of two suites side by side."""

    both: tuple[Matched, ...]
    """In the order of A."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def matched_cells(first: Mapping[str, CellValues], second: Mapping[str, CellValues]) -> Matching:
    """Returns which cells are one, each matched at most once.

    Those of equal label and values come first, then those of equal values under another label, then those of equal label on the same
    data set, whose values differ in something else.
    """
    candidates = [
        *((name, name) for name in first if second.get(name) == first[name]),
        *((name, other) for name in first for other in second if first[name] == second[other]),
        *((name, name) for name in first if name in second and first[name]["dataset"] == second[name]["dataset"]),
    ]
    pairs: dict[str, str] = {}
    for name, other in candidates:
        if name not in pairs and other not in pairs.values():
            pairs[name] = other
    both = tuple(Matched(name, pairs[name], differing(first[name], second[pairs[name]])) for name in first if name in pairs)
    only_first, only_second = (name for name in first if name not in pairs), (name for name in second if name not in pairs.values())
    return Matching(both, tuple(only_first), tuple(only_second))


QUALITY = {"test_accuracy": ("accuracy", "test"), "test_loss": ("loss", "test"), "train_loss": ("loss", "train")}
"""Measures that say what was trained, by column: metric and split."""
MEASURES = (*QUALITY, "train_seconds")
"""What is compared; seconds say on what it was trained."""

IDENTICAL, SHARED_IDENTICAL = "identical", "identical where shared"
"""All runs of the cell, or all that both sides have, have exactly equal numbers."""

BELOW, ABOVE = "B below A", "B above A"
LOSS_BELOW, LOSS_ABOVE = "B's loss below A's", "B's loss above A's"
"""Verdicts on cells that have no accuracy on either side: above is worse."""


@dataclass(frozen=True)
class OutcomeChange:
    """A run that ended otherwise in B than in A."""

    run: str
    """`seed 3`, or the run id where it is the same run."""
    first: Outcome
    second: Outcome
    reason: str
    """Of whichever is not ok, B's first."""

    @property
    def worse(self) -> bool:
        """Whether it was ok in A and is not in B."""
        return self.first is Outcome.OK and self.second is not Outcome.OK


def outcome_lines(changes: Sequence[OutcomeChange]) -> list[str]:
    """Returns outcome changes in words, runs with the same change in one line."""
    lines = []
    for (first, second, reason), runs in grouped(((one.first, one.second, one.reason), one.run) for one in changes).items():
        who = f"{runs[0]} is" if len(runs) == 1 else f"{len(runs)} runs are"
        lines.append(f"{who} {first.value} in A, {second.value} in B" + (f" ({reason})" if reason else ""))
    return lines


@dataclass(frozen=True)
class ComparedCell:
    """One cell in A and in B."""

    panel: str
    name: str
    """Its label in A."""
    name_second: str
    """Its label in B, mostly the same."""
    values: Mapping[str, tuple[str, str]]
    """Effective values in which the two differ, by key: then one label names two cells."""
    ok: tuple[int, int]
    """Runs that are ok in A and in B."""
    planned: tuple[int, int]
    changes: Mapping[str, Change]
    """By measure; those that neither side has are left out."""
    identical_runs: int = 0
    """Runs of the same id whose numbers are exactly equal."""
    shared_runs: int = 0
    """Runs of the same id that are ok in both."""
    outcomes: tuple[OutcomeChange, ...] = ()
    verdict: str = ""
    published: str = ""
    """Source of the published value, where one side is a paper."""

    @property
    def label(self) -> str:
        """The label, both where they differ."""
        return self.name if self.name == self.name_second else f"{self.name} (B: {self.name_second})"

    @property
    def accuracy(self) -> Change | None:
        """The change of the test accuracy, in percentage points."""
        return self.changes.get("test_accuracy")

    @property
    def metric(self) -> Metric:
        """What the verdict is on: the headline of the task that either side has values of."""
        return catalog.measured_task(self.changes).headline

    @property
    def headline(self) -> Change | None:
        """The change of `metric` on the test examples."""
        return self.changes.get(self.metric.column("test"))


def compare_cell(matched: Matched, panel: str, cells: tuple[Cell, Cell], *, same_data: bool) -> ComparedCell:
    """Returns what differs between the two sides of one cell, without its verdict.

    Args:
        matched: its labels.
        panel: its title in A.
        cells: in A and in B.
        same_data: whether equal split seeds are equal splits.
    """
    same_splits = same_data and is_paired(*cells)
    changes = {}
    for measure, (metric, split) in QUALITY.items():
        samples = [in_unit(cell, catalog.metrics()[metric], split) for cell in cells]
        if any(samples):
            changes[measure] = change(*samples, same_splits=same_splits)
    seconds = [_seconds(cell) for cell in cells]
    if any(seconds):
        changes["train_seconds"] = change(*seconds, same_splits=False)
    ok, others = ({run.run_id: run for run in cell.ok_runs} for cell in cells)
    shared = [(run, others[run_id]) for run_id, run in ok.items() if run_id in others]
    return ComparedCell(
        panel=panel,
        name=matched.first,
        name_second=matched.second,
        values=matched.values,
        ok=(len(ok), len(others)),
        planned=(len(cells[0].runs), len(cells[1].runs)),
        changes=changes,
        identical_runs=sum((one.numbers, one.test_correct) == (other.numbers, other.test_correct) for one, other in shared),
        shared_runs=len(shared),
        outcomes=tuple(
            OutcomeChange(name, before.outcome, after.outcome, after.reason or before.reason)
            for name, before, after in _paired_runs(*cells)
            if before.outcome != after.outcome
        ),
    )


def with_verdicts(cells: Sequence[ComparedCell]) -> tuple[tuple[ComparedCell, ...], int]:
    """Returns the cells with their verdicts, and how many of them were judged by Holm's procedure.

    Cells with a run that is not ok, or with one seed, get no verdict; identical ones need none.
    """
    unjudged = [bool(_incomplete(cell) or _identical_cell(cell)) for cell in cells]
    adjusted = {}
    for measure in MEASURES:
        changes = [None if left_out else cell.changes.get(measure) for cell, left_out in zip(cells, unjudged, strict=True)]
        adjusted[measure] = holm([one.p_value if one else None for one in changes])
    found = []
    for position, cell in enumerate(cells):
        judged = replace(cell, changes={name: replace(one, p_holm=adjusted[name][position]) for name, one in cell.changes.items()})
        found.append(replace(judged, verdict=_verdict(judged)))
    return tuple(found), sum(cell.headline is not None and cell.headline.p_holm is not None for cell in found)


def _verdict(cell: ComparedCell) -> str:
    incomplete, identical = _incomplete(cell), _identical_cell(cell)
    if identical and not incomplete:
        return identical
    headline = cell.headline
    if incomplete:
        reason = incomplete
    elif headline is None or headline.estimate is None:
        reason = "no accuracy"
    elif cell.published and headline.n_first == headline.n_second == 1:
        reason = "single runs"
    elif min(headline.n_first, headline.n_second) < 2 and not cell.published:
        reason = "one seed"
    elif headline.p_value is None:
        reason = "no spread between seeds"
    else:
        below, above = (BELOW, ABOVE) if cell.accuracy else (LOSS_BELOW, LOSS_ABOVE)
        return verdict_on(headline.estimate, headline.p_holm, above=above, below=below)
    return f"no verdict ({reason})"


def _incomplete(cell: ComparedCell) -> str:
    """Returns which side has runs that are not ok, or an empty text: such a cell is not judged."""
    sides = zip("AB", cell.ok, cell.planned, strict=True)
    return next((f"{side}: {ok} ok of {planned}" for side, ok, planned in sides if ok < planned), "")


def _identical_cell(cell: ComparedCell) -> str:
    """Returns the verdict on a cell all of whose shared runs are identical, or an empty text."""
    if not cell.identical_runs or not cell.identical_runs == cell.shared_runs == min(cell.ok):
        return ""
    return IDENTICAL if cell.ok[0] == cell.ok[1] else SHARED_IDENTICAL


def _data(values: CellValues) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key == "dataset" or key.startswith("dataset.")}


def _seconds(cell: Cell) -> dict[int, float]:
    """Returns train seconds of the ok runs, one for each that was timed: runs of one stack share its time, which counts once."""
    timed = [run for run in cell.ok_runs if run.train_seconds is not None]
    found = {(run.train_seconds, "" if run.replicas > 1 else run.run_id): float(run.train_seconds or 0.0) for run in timed}
    return dict(enumerate(found.values()))


def _paired_runs(first: Cell, second: Cell) -> list[tuple[str, Run, Run]]:
    """Returns runs that are the same on both sides: those of equal id, else those that alone have their seed."""
    by_id = {run.run_id: run for run in second.runs}
    pairs = [(run.run_id, run, by_id[run.run_id]) for run in first.runs if run.run_id in by_id]
    taken = {run_id for run_id, _, _ in pairs}
    rest = [[run for run in cell.runs if run.run_id not in taken] for cell in (first, second)]
    seeds = [Counter(run.seed for run in runs) for runs in rest]
    alone = {run.seed: run for run in rest[1] if seeds[1][run.seed] == 1}
    return pairs + [(f"seed {run.seed}", run, alone[run.seed]) for run in rest[0] if seeds[0][run.seed] == 1 and run.seed in alone]


# Published numbers in a comparison: a paper's single runs against ours, or the values of two published sets.

PREFIX = "published:"


@dataclass(frozen=True)
class PublishedSet:
    """The test accuracies of one paper, or of one of its tables."""

    name: str
    """As it is asked for, such as `published:hoffer2017` or `published:hoffer2017/table1`."""
    rows: tuple[published.PublishedRow, ...]

    def values(self) -> Iterator[tuple[str, str, published.PublishedRow, published.PublishedValue]]:
        """Yields network and data set, arm, row and value of everything in it."""
        for row in self.rows:
            alike = [other for other in self.rows if other.network == row.network and other.values.keys() & row.values.keys()]
            batch = f", batch {row.large_batch_size}" if len(alike) > 1 else ""
            for arm, value in row.values.items():
                yield f"{row.network} on {row.dataset}{batch}", arm, row, value


def published_set(name: str) -> PublishedSet:
    """Returns the published set that is named `published:PAPER` or `published:PAPER/TABLE`.

    Raises:
        UnknownNameError: there is no such paper or table.
    """
    paper, _, table = name.removeprefix(PREFIX).partition("/")
    tables = published.tables(paper)
    chosen = [tables[table]] if table else [*tables.values()]
    return PublishedSet(name, tuple(row for one in chosen for row in one.rows))


Sides = tuple[list[ComparedCell], Sequence[str], Sequence[str]]
"""The cells that both sides have, not judged yet, and what only the first and only the second has."""


def against_published(ours: tuple[Panel, ...], paper: PublishedSet, *, published_first: bool) -> Sides:
    """Returns our cells that the paper has a number for, and what only one side has: of ours with the reason, if it is other training."""
    cells, only_ours, held = [], [], set()
    of_paper = {(row.recipe, arm, value.batch_size): value for _, arm, row, value in paper.values() if row.recipe}
    known = {(recipe, arm) for recipe, arm, _ in of_paper}
    arm_at = {(row.recipe, row.regime, value.batch_size): arm for _, arm, row, value in paper.values() if row.recipe and row.regime}
    for panel in ours:
        for cell in panel.cells:
            arm = cell.arm or arm_at.get((panel.recipe, cell.regime, cell.batch_size), "")
            if (panel.recipe, arm) not in known:
                only_ours.append(cell.name)
                continue
            value = of_paper.get((panel.recipe, arm, cell.batch_size))
            if value is None or published_value(panel, cell) is None:
                only_ours.append(f"{cell.name} (not what the paper trained: {not_comparable(panel, cell)})")
                continue
            held.add((panel.recipe, arm, cell.batch_size))
            sample = [*in_unit(cell, catalog.metrics()["accuracy"]).values()]
            accuracy = change_from_published(value.percent, value.rounding_pp, sample, published_first=published_first)
            ok, planned = len(cell.ok_runs), len(cell.runs)
            counts = ((1, ok), (1, planned)) if published_first else ((ok, 1), (planned, 1))
            cells.append(ComparedCell(panel.title, cell.name, cell.name, {}, *counts, {"test_accuracy": accuracy}, published=value.source))
    left = _by_network((network, arm) for network, arm, row, value in paper.values() if (row.recipe, arm, value.batch_size) not in held)
    return (cells, left, only_ours) if published_first else (cells, only_ours, left)


def two_papers(first: PublishedSet, second: PublishedSet) -> Sides:
    """Returns the values that both sets have (same network, data set, arm and batch size), and what only one has; no intervals."""
    sides = [{f"{network}: {arm}": (network, arm, value) for network, arm, _, value in one.values()} for one in (first, second)]
    keys: list[dict[str, CellValues]] = [
        {name: {"dataset": name, "batch_size": value.batch_size} for name, (_, _, value) in side.items()} for side in sides
    ]
    found = matched_cells(*keys)
    cells = []
    for one in found.both:
        (network, arm, before), (_, other_arm, after) = sides[0][one.first], sides[1][one.second]
        accuracy = Change(before.percent, after.percent, 1, 1, estimate=after.percent - before.percent)
        changes = {"test_accuracy": accuracy}
        cells.append(ComparedCell(network, arm, other_arm, one.values, (1, 1), (1, 1), changes, published=after.source))
    only_first, only_second = (
        _by_network(side[name][:2] for name in names) for side, names in zip(sides, (found.only_first, found.only_second), strict=True)
    )
    return cells, only_first, only_second


def _by_network(values: Iterable[tuple[str, str]]) -> list[str]:
    """Returns networks, each with its arms in brackets."""
    return [f"{network} ({', '.join(arms)})" for network, arms in grouped(values).items()]


# The comparison as a whole, and what it says in words.

REGRESSED = {("test_accuracy", BELOW), ("test_loss", LOSS_ABOVE)}
"""Measures and verdicts that are a regression."""


@dataclass(frozen=True)
class Results:
    """One side: the runs of a suite."""

    name: str
    """As the reader knows it, such as a path."""
    suite: str
    runs: pd.DataFrame
    """`runs.parquet`."""
    values: Mapping[str, CellValues]
    """Effective values by label of the cell, from the plan."""


@dataclass(frozen=True)
class Comparison:
    """What differs between A and B. Differences are B minus A."""

    first: str
    """Name of A."""
    second: str
    about: tuple[str, str]
    """A few words on each: suite, runs ok."""
    environment: tuple[EnvironmentLine, ...]
    """Every property, equal or not; empty where one side is published."""
    cells: tuple[ComparedCell, ...]
    only_first: tuple[str, ...]
    """Cells that only A has."""
    only_second: tuple[str, ...]
    comparisons: int
    """Number of cells that Holm's procedure ran over, for each measure."""

    @property
    def published(self) -> bool:
        """Whether a side is a paper, whose environment is not known."""
        return not self.environment

    @property
    def environment_differences(self) -> tuple[EnvironmentLine, ...]:
        """The properties in which the two were trained otherwise."""
        return tuple(line for line in self.environment if line.differs)

    def regressions(self) -> list[str]:
        """Returns where B is worse than A, one sentence each; empty where it is nowhere.

        B is worse where a cell's test accuracy is separated below A's (Holm over the cells, familywise 5 %; where neither side has an
        accuracy: its test loss above A's), where a run that is ok in A is not ok in B (diverged, crashed, not started, ...), and where A
        has a cell that B has not. Against a published set, cells that only the paper has do not count.
        """
        found = []
        for cell in self.cells:
            metric, change = cell.metric, cell.headline
            if (metric.column("test"), cell.verdict) in REGRESSED and change is not None and change.estimate is not None:
                size = f"{abs(change.estimate):{'.3g' if metric.decimals is None else f'.{metric.decimals}f'}} {metric.gap_unit}"
                side = "below" if change.estimate < 0 else "above"
                found.append(f"{cell.label}: test {metric.name} is {size} {side} A's, separated")
            found.extend(f"{cell.label}: {line}" for line in outcome_lines([change for change in cell.outcomes if change.worse]))
        if not self.published:
            found.extend(f"{name}: is missing in B" for name in self.only_first)
        return found

    def differences(self) -> list[str]:
        """Returns where results differ at all, one sentence each; empty where they do not.

        Beside all regressions: a test accuracy, test loss or train loss that is separated in either direction, a run that ended otherwise,
        a label that stands for other values, a cell that only B has. Seconds and environment do not count.
        """
        found = self.regressions()
        for cell in self.cells:
            for measure in QUALITY:
                change = cell.changes.get(measure)
                if change is not None and change.separated and (measure, cell.verdict) not in REGRESSED:
                    found.append(f"{cell.label}: {measure.replace('_', ' ')} differs, separated")
            found.extend(f"{cell.label}: {line}" for line in outcome_lines([change for change in cell.outcomes if not change.worse]))
            found.extend(f"{cell.label}: {key} is {before} in A and {after} in B" for key, (before, after) in cell.values.items())
        if not self.published:
            found.extend(f"{name}: is missing in A" for name in self.only_second)
        return found

    def frame(self) -> pd.DataFrame:
        """Returns the comparison as tidy numbers, one row per cell; `in` says which side has it. Accuracies in percent, `_pp` points."""
        import pandas as pd

        rows: list[dict[str, Any]] = [_record(cell) for cell in self.cells]
        rows += [{"cell": name, "in": "A"} for name in self.only_first]
        rows += [{"cell": name, "in": "B"} for name in self.only_second]
        frame = pd.DataFrame(rows, columns=None if rows else ["cell", "in"])
        counts = [name for name in frame.columns if name.startswith(("ok_", "planned_", "runs_")) or "_n_" in name]
        return frame.astype(dict.fromkeys(counts, "Int64"))


def compare_results(first: Results | PublishedSet, second: Results | PublishedSet) -> Comparison:
    """Returns what differs between two results, two published sets, or one of each."""
    environment: tuple[EnvironmentLine, ...] = ()
    match first, second:
        case Results(), Results():
            sides, environment = _two_results(first, second), environment_lines(first.runs, second.runs)
        case PublishedSet(), PublishedSet():
            sides = two_papers(first, second)
        case PublishedSet(), Results():
            sides = against_published(read_panels(second.runs), first, published_first=True)
        case Results(), PublishedSet():
            sides = against_published(read_panels(first.runs), second, published_first=False)
    cells, only_first, only_second = sides
    judged, compared = with_verdicts(cells)
    about = _about(first), _about(second)
    return Comparison(first.name, second.name, about, environment, judged, tuple(only_first), tuple(only_second), compared)


def _two_results(first: Results, second: Results) -> Sides:
    panels = read_panels(first.runs)
    titles = {cell.name: panel.title for panel in panels for cell in panel.cells}
    sides = [{cell.name: cell for panel in own for cell in panel.cells} for own in (panels, read_panels(second.runs))]
    values = [{name: one.values[name] for name in cells} for one, cells in zip((first, second), sides, strict=True)]
    matching = matched_cells(*values)
    cells = []
    for one in matching.both:
        same_data = _data(values[0][one.first]) == _data(values[1][one.second])
        cells.append(compare_cell(one, titles[one.first], (sides[0][one.first], sides[1][one.second]), same_data=same_data))
    return cells, matching.only_first, matching.only_second


def _about(side: Results | PublishedSet) -> str:
    if isinstance(side, PublishedSet):
        values = sum(len(row.values) for row in side.rows)
        return f"{values} published test accuracies, one run each"
    outcomes = side.runs.drop_duplicates("run_id")["outcome"]
    return f"suite {side.suite}, {int((outcomes == 'ok').sum())} of {len(outcomes)} runs ok"


def _record(cell: ComparedCell) -> dict[str, Any]:
    row: dict[str, Any] = {
        "cell": cell.name,
        "in": "both",
        "cell_second": cell.name_second,
        "panel": cell.panel,
        "ok_first": cell.ok[0],
        "planned_first": cell.planned[0],
        "ok_second": cell.ok[1],
        "planned_second": cell.planned[1],
        "runs_shared": cell.shared_runs,
        "runs_identical": cell.identical_runs,
        "verdict": cell.verdict,
    }
    for measure, change in cell.changes.items():
        name = "test_accuracy_pp" if measure == "test_accuracy" else measure
        mean = "test_accuracy_percent" if measure == "test_accuracy" else measure
        row |= {
            f"{mean}_first": change.first,
            f"{mean}_second": change.second,
            f"{measure}_n_first": change.n_first,
            f"{measure}_n_second": change.n_second,
            f"{name}_difference": change.estimate,
            f"{name}_difference_low": change.low,
            f"{name}_difference_high": change.high,
            f"{measure}_p": change.p_value,
            f"{measure}_p_holm": change.p_holm,
            f"{measure}_method": change.method or None,
        }
    row["values_differing"] = "; ".join(f"{key}: {before} -> {after}" for key, (before, after) in cell.values.items()) or None
    row["outcomes_differing"] = "; ".join(f"{one.run}: {one.first.value} -> {one.second.value}" for one in cell.outcomes) or None
    return row


def summary(comparison: Comparison) -> list[str]:
    """Returns the verdict on a comparison as sentences, then how to read its numbers."""
    cells = comparison.cells
    if not cells:
        return ["No cell is in both, so there is nothing to compare (cells on different data sets are never one)."]
    counts = Counter(cell.verdict if cell.verdict in _KINDS else "" for cell in cells)
    parts = [f"{number} {words}" for verdict, words in _KINDS.items() if (number := counts[verdict])]
    sentences = [f"Of {counted(len(cells), 'cell')} in both: {', '.join(parts)}."]
    identical, shared = sum(cell.identical_runs for cell in cells), sum(cell.shared_runs for cell in cells)
    if shared:
        both = f"{counted(shared, 'run')} of the same id {'is' if shared == 1 else 'are'} ok in both"
        sentences.append(f"{both}; {_equal(identical, shared)}.")
    return sentences + _how(comparison)


def values_by_change(comparison: Comparison) -> list[str]:
    """Returns the effective values in which cells of one label differ: once for each change, with the cells that it is in."""
    found = grouped(((key, *texts), cell.label) for cell in comparison.cells for key, texts in cell.values.items())
    lines = []
    for (key, before, after), labels in found.items():
        where = "every cell" if len(labels) == len(comparison.cells) > 1 else some(labels)
        lines.append(f"{key}: {before} -> {after} ({where})")
    return lines


_KINDS = {
    IDENTICAL: "identical to the last digit",
    SHARED_IDENTICAL: "identical in the runs that both have",
    BELOW: "with test accuracy in B below A",
    ABOVE: "with test accuracy in B above A",
    LOSS_ABOVE: "with test loss in B above A",
    LOSS_BELOW: "with test loss in B below A",
    NOT_SEPARATED: "not separated",
    "": "without verdict",
}


def _equal(identical: int, shared: int) -> str:
    if identical == shared:
        return "its numbers are exactly equal" if shared == 1 else "all their numbers are exactly equal"
    return f"the numbers of {identical or 'none'} of them are exactly equal"


def _how(comparison: Comparison) -> list[str]:
    methods = {change.method for cell in comparison.cells for change in cell.changes.values() if change.low is not None}
    judged = {cell.headline.method for cell in comparison.cells if cell.headline and cell.headline.low is not None}
    out = ["Differences are B minus A: below zero, B's accuracy is lower. Losses are in nats."]
    if not methods:
        return [*out, "There is no interval from one seed, and so no verdict."]
    text = "Intervals are 95 %, pointwise, Student t over seeds"
    if "paired" in judged:
        text += "; paired by split where each seed draws its own and both sides have the same ones" + (
            ", Welch's else" if "welch" in judged else ""
        )
    elif "welch" in judged:
        text += ", differences Welch's"
    if "prediction" in judged:
        text += "; a published single run is held against where one new run of ours falls with probability 95 %, its rounding added"
    if comparison.comparisons:
        text += f"; verdicts hold at 5 % together, by Holm's procedure over {counted(comparison.comparisons, 'cell')}"
    return [*out, text + "."]
