"""Two results side by side: results directories, bundles, or published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gapbench.analysis.comparison import PREFIX, Comparison, PublishedSet, Results, compare_results, published_set
from gapbench.api.keeping import find, open_refreshed
from gapbench.core.errors import StoreError
from gapbench.store import read_tables, shared_plan
from gapbench.store.files import write_text
from gapbench.suite.runspec import values_by_cell

FailOn = Literal["regression", "difference", "environment"]
"""What a caller may want to know of a comparison: see `failures`."""


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Returns what differs between two results, A and B: environment, cells, outcomes, and what only one has.

    Cells are matched by their effective values, as the plans of both resolve them, and by label; `Comparison.frame()` is the whole as
    a table.

    Args:
        first: A, such as last month's: a results directory, a bundle, a name below `results/`, or `published:PAPER`.
        second: B, such as today's.

    Raises:
        StoreError: a side is missing or cannot be read.
        UnknownNameError: there is no such paper.
    """
    return compare_results(_side(first), _side(second))


def comparison_failures(comparison: Comparison, fail_on: FailOn) -> list[str]:
    """Returns the sentences that make a comparison fail; empty where it does not.

    Args:
        comparison: from `compare`.
        fail_on: `regression`: a cell's test accuracy separated below A's (Holm over the cells, 5 %), a run that is ok in A and not in
            B, a cell that B lacks. `difference`: also what is separated above, a separated loss, any other outcome, a label that
            stands for other values, a cell that A lacks. `environment`: other versions, device, precision, threads, slots, commit,
            stacks or program.
    """
    if fail_on == "regression":
        return comparison.regressions()
    if fail_on == "difference":
        return comparison.differences()
    return [f"{line.name} is {line.first} in A and {line.second} in B" for line in comparison.environment_differences]


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Writes a comparison as CSV, one row per cell.

    Raises:
        StoreError: the file exists or cannot be written.
    """
    target = Path(path)
    if target.exists():
        raise StoreError(f"{target}: exists already; choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, str(comparison.frame().to_csv(index=False, lineterminator="\n")))
    return target


def _side(asked: str | Path) -> Results | PublishedSet:
    if str(asked).startswith(PREFIX):
        return published_set(str(asked))
    directory = open_refreshed(find(asked))
    tables = read_tables(directory.path)
    return Results(str(asked), tables.suite, tables.runs, values_by_cell(shared_plan(directory.plan()).runs))
