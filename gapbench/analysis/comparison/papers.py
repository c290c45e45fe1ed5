"""Published numbers in a comparison: a paper's single runs against ours, or the values of two published sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gapbench import published
from gapbench.analysis.cells import Panel
from gapbench.analysis.comparison.cells import ComparedCell
from gapbench.analysis.comparison.changes import Change, change_from_published
from gapbench.analysis.comparison.matching import Matched, match
from gapbench.analysis.paper import not_comparable, published_value
from gapbench.suite.cell_values import CellValues

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
