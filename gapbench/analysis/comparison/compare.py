"""The comparison of two results: environment first, then every cell that both have, then what only one has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import Panel, read_panels
from gapbench.analysis.comparison.cells import (
    ABOVE,
    BELOW,
    IDENTICAL,
    LOSS_ABOVE,
    LOSS_BELOW,
    QUALITY,
    SHARED_IDENTICAL,
    Change,
    ComparedCell,
    Matched,
    change_from_published,
    compare_cell,
    match,
    members,
    outcome_lines,
    with_verdicts,
)
from gapbench.analysis.environment import EnvironmentLine, environment_lines
from gapbench.analysis.formats import counted
from gapbench.analysis.paper import not_comparable, published_value
from gapbench.analysis.stats import NOT_SEPARATED
from gapbench.catalog import published
from gapbench.suite.identity import CellValues

if TYPE_CHECKING:
    import pandas as pd


# A comparison in words: what it comes to, which values stand behind one label, how its numbers are made.

MANY = 6
"""More labels than this are counted instead of listed."""


def summary(comparison: Comparison) -> list[str]:
    """Returns the verdict on a comparison as sentences, then how to read its numbers."""
    cells = comparison.cells
    if not cells:
        return ["No cell is in both, so there is nothing to compare (cells on different data sets are never one)."]
    counts = Counter(cell.verdict if cell.verdict in _KINDS else "" for cell in cells)
    parts = [f"{number} {words}" for verdict, words in _KINDS.items() if (number := counts[verdict])]
    sentences = [f"Of {counted(len(cells), 'cell')} in both: {', '.join(parts)}."]
    identical = sum(cell.identical_runs for cell in cells)
    shared = sum(cell.shared_runs for cell in cells)
    if shared:
        sentences.append(
            f"{counted(shared, 'run')} of the same id {'is' if shared == 1 else 'are'} ok in both; {_equal(identical, shared)}."
        )
    return sentences + _how(comparison)


def values_by_change(comparison: Comparison) -> list[str]:
    """Returns the effective values in which cells of one label differ: once for each change, with the cells that it is in."""
    found: dict[tuple[str, str, str], list[str]] = {}
    matched = [cell for cell in comparison.cells if cell.values]
    for cell in matched:
        for key, (before, after) in cell.values.items():
            found.setdefault((key, before, after), []).append(cell.label)
    lines = []
    for (key, before, after), labels in found.items():
        where = "every cell" if len(labels) == len(comparison.cells) > 1 else listed(labels)
        lines.append(f"{key}: {before} -> {after} ({where})")
    return lines


def listed(names: Sequence[str]) -> str:
    """Returns names with commas; of many the first few and how many more."""
    return ", ".join(names[:MANY]) + (f" and {len(names) - MANY} more" if len(names) > MANY else "")


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
    tables = [published.table(paper, one) for one in ([table] if table else published.tables(paper))]
    return PublishedSet(name, tuple(row for one in tables for row in one.rows))


def against_published(
    ours: tuple[Panel, ...], paper: PublishedSet, *, published_first: bool
) -> tuple[list[ComparedCell], list[str], list[str]]:
    """Returns our cells that the paper has a number for, those that it has none for with the reason, and what only the paper has.

    A cell that trains something else than the paper (a subset, fewer epochs, another batch) is not held against it.
    """
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
            sample = [100 * accuracy for accuracy in cell.column("test_accuracy").values()]
            accuracy = change_from_published(value.percent, value.rounding_pp, sample, published_first=published_first)
            counts = ((1, 1), (len(cell.ok_runs), len(cell.runs)))
            (ok_first, planned_first), (ok_second, planned_second) = counts if published_first else counts[::-1]
            cells.append(
                ComparedCell(
                    panel=panel.title,
                    name=cell.name,
                    name_second=cell.name,
                    values={},
                    ok_first=ok_first,
                    planned_first=planned_first,
                    ok_second=ok_second,
                    planned_second=planned_second,
                    changes={"test_accuracy": accuracy},
                    published=value.source,
                )
            )
    return (
        cells,
        only_ours,
        _by_network((network, arm) for network, arm, row, value in paper.values() if (row.recipe, arm, value.batch_size) not in held),
    )


def two_papers(first: PublishedSet, second: PublishedSet) -> tuple[list[ComparedCell], list[str], list[str]]:
    """Returns the values that both sets have (same network, data set, arm and batch size), and what only one has; no intervals."""
    sides = [{f"{network}: {arm}": (network, arm, value) for network, arm, _, value in one.values()} for one in (first, second)]
    keys: list[dict[str, CellValues]] = [
        {name: {"dataset": name, "batch_size": value.batch_size} for name, (_, _, value) in side.items()} for side in sides
    ]
    found = match(*keys)
    only = [
        _by_network((side[name][0], side[name][1]) for name in names)
        for side, names in zip(sides, (found.only_first, found.only_second), strict=True)
    ]
    return [_pair(one, *sides) for one in found.both], only[0], only[1]


def _by_network(values: Iterable[tuple[str, str]]) -> list[str]:
    """Returns networks, each with its arms in brackets."""
    arms: dict[str, list[str]] = {}
    for network, arm in values:
        arms.setdefault(network, []).append(arm)
    return [f"{network} ({', '.join(own)})" for network, own in arms.items()]


def _pair(
    matched: Matched,
    first: dict[str, tuple[str, str, published.PublishedValue]],
    second: dict[str, tuple[str, str, published.PublishedValue]],
) -> ComparedCell:
    network, arm, before = first[matched.first]
    _, other_arm, after = second[matched.second]
    accuracy = Change(before.percent, after.percent, 1, 1, estimate=after.percent - before.percent)
    return ComparedCell(network, arm, other_arm, matched.values, 1, 1, 1, 1, {"test_accuracy": accuracy}, published=after.source)


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
    published: bool = False
    """Whether a side is a paper."""

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
    if isinstance(first, Results) and isinstance(second, Results):
        return _two_results(first, second)
    if isinstance(first, PublishedSet) and isinstance(second, PublishedSet):
        cells, only_first, only_second = two_papers(first, second)
    elif isinstance(first, PublishedSet):
        assert isinstance(second, Results)
        cells, only_second, only_first = against_published(read_panels(second.runs), first, published_first=True)
    else:
        assert isinstance(second, PublishedSet)
        cells, only_first, only_second = against_published(read_panels(first.runs), second, published_first=False)
    judged, compared = with_verdicts(cells)
    about = (_about(first), _about(second))
    return Comparison(first.name, second.name, about, (), judged, tuple(only_first), tuple(only_second), compared, published=True)


def _two_results(first: Results, second: Results) -> Comparison:
    sides = [members(read_panels(one.runs), one.values, one.runs) for one in (first, second)]
    matching = match(*({name: member.values for name, member in side.items()} for side in sides))
    cells, compared = with_verdicts([compare_cell(one, sides[0][one.first], sides[1][one.second]) for one in matching.both])
    return Comparison(
        first=first.name,
        second=second.name,
        about=(_about(first), _about(second)),
        environment=environment_lines(first.runs, second.runs),
        cells=cells,
        only_first=matching.only_first,
        only_second=matching.only_second,
        comparisons=compared,
    )


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
        "ok_first": cell.ok_first,
        "planned_first": cell.planned_first,
        "ok_second": cell.ok_second,
        "planned_second": cell.planned_second,
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
