"""What several directories of one suite asked for, as one plan; a label that stands for different runs is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from gapbench.core.errors import StoreError
from gapbench.store.plan import StoredPlan
from gapbench.suite.cell_values import differing, values_by_cell
from gapbench.suite.runspec import Labels, PlannedRun

Key = tuple[str, int, int, int, int]
MANY = 3


def merged_plan(plans: Mapping[Path, StoredPlan]) -> StoredPlan:
    """Returns the union of plans of one suite, in the order of the longest; what the others have more follows.

    Raises:
        StoreError: a cell stands for different values in two of the plans.
    """
    for (path, plan), (later_path, later) in itertools.combinations(plans.items(), 2):
        _check(path, plan, later_path, later)
    ordered = sorted(plans.values(), key=lambda plan: -len(plan.runs))  # stable: of equal ones the first named leads
    base = ordered[0]
    runs = {_key(run): run for run in base.runs}
    cells = {run.labels.cell: run.labels for run in base.runs}
    for plan in ordered[1:]:
        for run in plan.runs:
            if _key(run) not in runs:
                # A cell has one order and one set of labels, whichever directory a seed of it comes from.
                labels = cells.setdefault(run.labels.cell, run.labels.model_copy(update={"cell_order": 1 + _last(cells)}))
                runs[_key(run)] = PlannedRun(run_id=run.run_id, spec=run.spec, labels=labels)
    return StoredPlan(base.suite, tuple(runs.values()), base.report)


def merged_suite_toml(texts: Mapping[Path, str]) -> str:
    """Returns the suite file of the merged directory: the one that all share, else the first's with the others as comments below."""
    different = dict.fromkeys(texts.values())
    if len(different) == 1:
        return next(iter(different))
    first, *others = different
    lines = ["# Merged from directories whose suites differ: first that of the directory named first, then the others as comments.", ""]
    lines += first.rstrip().splitlines()
    for text in others:
        lines += ["", "# Another of the merged suites:", "#", *(f"# {line}".rstrip() for line in text.rstrip().splitlines())]
    return "\n".join(lines) + "\n"


def _key(run: PlannedRun) -> Key:
    spec = run.spec
    return run.labels.cell, spec.seed, spec.init_seed, spec.order_seed, spec.split_seed


def _last(cells: Mapping[str, Labels]) -> int:
    return max((labels.cell_order for labels in cells.values()), default=-1)


def _check(first_path: Path, first: StoredPlan, second_path: Path, second: StoredPlan) -> None:
    """Raises StoreError where the same cell and seeds are different runs, or a cell has other values for other seeds."""
    ids = {_key(run): run.run_id for run in first.runs}
    unequal = {run.labels.cell for run in second.runs if ids.get(_key(run), run.run_id) != run.run_id}
    values, other_values = values_by_cell(first.runs), values_by_cell(second.runs)
    shared = [cell for cell in values if cell in other_values]
    problems = []
    for cell in shared:
        found = differing(values[cell], other_values[cell])
        if cell in unequal or found:
            listed = "; ".join(f"{key} {before} against {after}" for key, (before, after) in found.items())
            problems.append(f"{cell} ({listed or 'its seeds stand for other runs'})")
    if problems:
        more = f" and {len(problems) - MANY} more" if len(problems) > MANY else ""
        raise StoreError(
            f"{first_path} and {second_path}: the same labels stand for different runs: {', '.join(problems[:MANY])}{more}; "
            "give them other labels, or put the two side by side with `gapbench compare`"
        )
