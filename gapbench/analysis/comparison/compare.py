"""The comparison of two results: environment first, then every cell that both have, then what only one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import read_panels
from gapbench.analysis.comparison.cells import (
    BELOW,
    LOSS_ABOVE,
    QUALITY,
    ComparedCell,
    compare_cell,
    members,
    outcome_lines,
    with_verdicts,
)
from gapbench.analysis.comparison.matching import match
from gapbench.analysis.comparison.papers import PublishedSet, against_published, two_papers
from gapbench.analysis.environment import EnvironmentLine, environment_lines
from gapbench.suite.cell_values import CellValues

if TYPE_CHECKING:
    import pandas as pd


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
            if cell.verdict == BELOW and cell.accuracy is not None and cell.accuracy.estimate is not None:
                found.append(f"{cell.label}: test accuracy is {-cell.accuracy.estimate:.2f} pp below A's, separated")
            if cell.verdict == LOSS_ABOVE and cell.headline is not None and cell.headline.estimate is not None:
                found.append(f"{cell.label}: test loss is {cell.headline.estimate:.3g} nats above A's, separated")
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
