"""One cell in two results: how its measures changed, which runs are the very same, which ended otherwise, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import Cell, Panel, Run
from gapbench.analysis.comparison.changes import Change, change, judged
from gapbench.analysis.comparison.matching import Matched
from gapbench.core.outcome import Outcome
from gapbench.suite.cell_values import CellValues

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {"test_accuracy": "pp", "test_loss": "", "train_loss": "", "train_seconds": "s"}
"""What is compared, and its unit: accuracy in percentage points, losses in nats."""

QUALITY = ("test_accuracy", "test_loss", "train_loss")
"""Measures that say what was trained; seconds say on what."""

IDENTICAL, SHARED_IDENTICAL = "identical", "identical where shared"
"""All runs of the cell, or all that both sides have, have exactly equal numbers."""

BELOW, ABOVE, NOT_SEPARATED = "B below A", "B above A", "not separated"
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
    groups: dict[tuple[Outcome, Outcome, str], list[str]] = {}
    for one in changes:
        groups.setdefault((one.first, one.second, one.reason), []).append(one.run)
    lines = []
    for (first, second, reason), runs in groups.items():
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
    ok_first: int
    planned_first: int
    ok_second: int
    planned_second: int
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
    def headline(self) -> Change | None:
        """What the verdict is on: the change of the test accuracy, or of the test loss where neither side has an accuracy."""
        return self.accuracy or self.changes.get("test_loss")


@dataclass(frozen=True)
class Member:
    """A cell of one side with what is needed to compare it."""

    panel: Panel
    cell: Cell
    values: CellValues
    rows: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """Rows of `runs.parquet` by run id."""


def members(panels: Iterable[Panel], values: Mapping[str, CellValues], runs: pd.DataFrame) -> dict[str, Member]:
    """Returns the cells of one side by label."""
    rows = {str(row["run_id"]): {str(key): value for key, value in row.items()} for row in runs.to_dict("records")}
    return {cell.name: Member(panel, cell, values[cell.name], rows) for panel in panels for cell in panel.cells}


def compare_cell(matched: Matched, first: Member, second: Member) -> ComparedCell:
    """Returns what differs between the two sides of one cell, without its verdict."""
    shared = _shared_ids(first.cell, second.cell)
    same_splits = first.cell.split_drawn and second.cell.split_drawn and _data(first.values) == _data(second.values)
    changes = {}
    for measure in QUALITY:
        factor = 100.0 if measure == "test_accuracy" else 1.0
        samples = [
            {key: factor * value for key, value in member.cell.column(measure).items()} for member in (first, second)
        ]  # fmt: skip
        if any(samples):
            changes[measure] = change(samples[0], samples[1], same_splits=same_splits)
    seconds = [_seconds(member) for member in (first, second)]
    if any(seconds):
        changes["train_seconds"] = change(seconds[0], seconds[1], same_splits=False)
    return ComparedCell(
        panel=first.panel.title,
        name=matched.first,
        name_second=matched.second,
        values=matched.values,
        ok_first=len(first.cell.ok_runs),
        planned_first=len(first.cell.runs),
        ok_second=len(second.cell.ok_runs),
        planned_second=len(second.cell.runs),
        changes=changes,
        identical_runs=sum(_identical(run_id, first, second) for run_id in shared),
        shared_runs=len(shared),
        outcomes=tuple(_outcome_changes(first, second)),
    )


def with_verdicts(cells: Sequence[ComparedCell]) -> tuple[tuple[ComparedCell, ...], int]:
    """Returns the cells with their verdicts, and how many of them were judged by Holm's procedure.

    Cells with a run that is not ok, or with one seed, get no verdict; identical ones need none.
    """
    unjudged = [_incomplete(cell) or _identical_cell(cell) for cell in cells]
    found = list(cells)
    for measure in MEASURES:
        changes = judged([None if reason else cell.changes.get(measure) for cell, reason in zip(cells, unjudged, strict=True)])
        for position, one in enumerate(changes):
            if one is not None:
                found[position] = replace(found[position], changes={**found[position].changes, measure: one})
    compared = sum(cell.headline is not None and cell.headline.p_holm is not None for cell in found)
    return tuple(replace(cell, verdict=_verdict(cell)) for cell in found), compared


def _verdict(cell: ComparedCell) -> str:
    headline = cell.headline
    if not _incomplete(cell) and _identical_cell(cell):
        return _identical_cell(cell)
    reason = _incomplete(cell) or _without_interval(cell)
    if reason:
        return f"no verdict ({reason})"
    if headline is None or headline.estimate is None or not headline.separated:
        return NOT_SEPARATED
    below, above = (BELOW, ABOVE) if cell.accuracy else (LOSS_BELOW, LOSS_ABOVE)
    return below if headline.estimate < 0 else above


def _incomplete(cell: ComparedCell) -> str:
    """Returns which side has runs that are not ok, or an empty text: such a cell is not judged."""
    for side, ok, planned in (("A", cell.ok_first, cell.planned_first), ("B", cell.ok_second, cell.planned_second)):
        if ok < planned:
            return f"{side}: {ok} ok of {planned}"
    return ""


def _identical_cell(cell: ComparedCell) -> str:
    """Returns the verdict on a cell all of whose shared runs are identical, or an empty text."""
    if not cell.identical_runs or not cell.identical_runs == cell.shared_runs == min(cell.ok_first, cell.ok_second):
        return ""
    return IDENTICAL if cell.ok_first == cell.ok_second else SHARED_IDENTICAL


def _without_interval(cell: ComparedCell) -> str:
    """Returns why a complete cell cannot be judged, or an empty text."""
    headline = cell.headline
    if headline is None or headline.estimate is None:
        return "no accuracy"
    if cell.published and headline.n_first == headline.n_second == 1:
        return "single runs"
    if min(headline.n_first, headline.n_second) < 2 and not cell.published:
        return "one seed"
    return "" if headline.p_value is not None else "no spread between seeds"


def _shared_ids(first: Cell, second: Cell) -> list[str]:
    ids = {run.run_id for run in second.ok_runs}
    return [run.run_id for run in first.ok_runs if run.run_id in ids]


def _identical(run_id: str, first: Member, second: Member) -> bool:
    """Whether a run has exactly the same numbers on both sides, test examples included."""
    numbers = [next(run.numbers for run in member.cell.runs if run.run_id == run_id) for member in (first, second)]
    bits = [member.rows[run_id].get("test_correct") for member in (first, second)]
    return numbers[0] == numbers[1] and bits[0] == bits[1]


def _data(values: CellValues) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key == "dataset" or key.startswith("dataset.")}


def _seconds(member: Member) -> dict[int, float]:
    """Returns train seconds of the ok runs, one for each that was timed: runs of one stack share its time, which counts once."""
    found: dict[tuple[float, str], float] = {}
    for run in member.cell.ok_runs:
        row = member.rows[run.run_id]
        seconds, replicas = float(row["train_seconds"]), row["replicas"]
        if seconds == seconds:  # not NaN
            found[(seconds, "" if replicas > 1 else run.run_id)] = seconds
    return dict(enumerate(found.values()))


def _outcome_changes(first: Member, second: Member) -> list[OutcomeChange]:
    changes = []
    for name, before, after in _paired_runs(first.cell, second.cell):
        if before.outcome != after.outcome:
            reasons = [str(member.rows[run.run_id].get("reason") or "") for member, run in ((second, after), (first, before))]
            reason = next((text for text in reasons if text not in ("", "None", "nan")), "")
            changes.append(OutcomeChange(name, before.outcome, after.outcome, reason))
    return changes


def _paired_runs(first: Cell, second: Cell) -> list[tuple[str, Run, Run]]:
    """Returns runs that are the same on both sides: those of equal id, else those that alone have their seed."""
    by_id = {run.run_id: run for run in second.runs}
    pairs = [(run.run_id, run, by_id[run.run_id]) for run in first.runs if run.run_id in by_id]
    taken = {run_id for run_id, _, _ in pairs}
    rest = [[run for run in cell.runs if run.run_id not in taken] for cell in (first, second)]
    seeds = [Counter(run.seed for run in runs) for runs in rest]
    alone = {run.seed: run for run in rest[1] if seeds[1][run.seed] == 1}
    return pairs + [(f"seed {run.seed}", run, alone[run.seed]) for run in rest[0] if seeds[0][run.seed] == 1 and run.seed in alone]
