"""The arms table: every cell with its intervals, its gaps against the reference cell, a verdict, and the paper's number beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.curves import Curves, MatchedLoss, matched_loss_gap
from gapbench.analysis.environment import environment_notes
from gapbench.analysis.examples import ExampleInterval, gap_over_examples
from gapbench.analysis.formats import ArmCells, budget_text, columns_of, format_row, rate_text
from gapbench.analysis.paper import Published, not_comparable, published_value
from gapbench.analysis.stats import (
    GAP_PP,
    SIGNIFICANCE,
    Difference,
    Estimate,
    Power,
    Ratio,
    difference,
    holm,
    power,
    prediction_interval,
    share_closed,
    t_interval,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ArmRow:
    """One cell of the table. Accuracies are fractions, losses and `_nats` in nats, `_pp` percentage points."""

    panel: Panel
    cell: Cell
    reference: Cell | None
    """The cell it is held against; None where the panel has none."""
    test_accuracy: Estimate | None
    test_loss: Estimate | None
    train_accuracy: Estimate | None
    train_loss: Estimate | None
    train_test_gap_pp: Estimate | None
    batch_gap_pp: Difference | None = None
    """Test accuracy of the reference cell minus that of this one; None for the reference itself."""
    batch_gap_nats: Difference | None = None
    """Of models that do not classify: test loss of this cell minus that of the reference cell, so that here, too, positive is worse."""
    batch_gap_examples: ExampleInterval | None = None
    """The same gap over test examples: what another test set would say of these networks, where `batch_gap_pp` is over seeds."""
    batch_gap_budget: str = ""
    batch_gap_learning_rate: str = ""
    p_holm: float | None = None
    """Adjusted over all cells of the table; None where there is no verdict."""
    power: Power | None = None
    """What this comparison can see; None where there is no verdict."""
    matched_loss: MatchedLoss | None = None
    verdict: str = ""
    share_closed: Ratio | None = None
    """Share of the batch gap of the untouched baseline cell that this cell closes; only where that gap is itself separated."""
    share_baseline: str = ""
    """Name of that baseline cell."""
    same_runs_as: str = ""
    """Name of the cell whose very runs these are; empty: they are its own."""
    published: Published | None = None
    not_comparable: str = ""
    """Why a cell named like one of the paper's arms is not held against the paper's number."""
    prediction: tuple[float, float] | None = None
    """Where one new run of this cell falls with 95 % probability: what a published single run is held against."""

    @property
    def batch_gap(self) -> Difference | None:
        """In percentage points, or in nats where nothing is classified; positive is worse. None for the reference itself."""
        return self.batch_gap_pp or self.batch_gap_nats

    @property
    def headline(self) -> Estimate | None:
        """Test accuracy, or test loss where nothing is classified."""
        return self.test_accuracy if self.panel.headline == "test_accuracy" else self.test_loss

    @property
    def published_inside(self) -> bool | None:
        """Whether the published single run, rounded as it is, may lie in our prediction interval; None without either."""
        if self.published is None or self.prediction is None:
            return None
        return not self.published.off_by_pp(*self.prediction)

    @property
    def separated(self) -> bool:
        """Whether the verdict says below or above."""
        return self.verdict in (BELOW, ABOVE, LOSS_ABOVE, LOSS_BELOW)


REFERENCE, BELOW, ABOVE, NOT_SEPARATED = "reference", "below reference", "above reference", "not separated"
LOSS_ABOVE, LOSS_BELOW = "loss above reference", "loss below reference"
"""Verdicts on cells that are compared by test loss, where above is worse."""


@dataclass(frozen=True)
class ArmsTable:
    """What the arms of a suite come to, for consoles, files and notebooks."""

    rows: tuple[ArmRow, ...]
    """In table order, panel by panel."""
    columns: tuple[str, ...]
    """Headings of `cells`; columns that would be empty in every row are left out."""
    short_columns: tuple[str, ...]
    """Those that fit a terminal."""
    verdict: list[str]
    """Sentences, the most telling ones first."""
    notes: list[str]
    """How to read the table, and what to be careful about."""
    comparisons: int
    """Number of comparisons that Holm's procedure ran over."""

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The groups of comparable cells, in order."""
        return tuple(dict.fromkeys(row.panel for row in self.rows))

    def rows_of(self, panel: Panel) -> tuple[ArmRow, ...]:
        """Returns the rows of one panel."""
        return tuple(row for row in self.rows if row.panel == panel)

    def cells(self, row: ArmRow, columns: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Returns the short texts of one row under `columns` (all of them by default)."""
        texts: ArmCells = format_row(row)
        return tuple(texts[column] for column in columns or self.columns)

    def frame(self) -> pd.DataFrame:
        """Returns the table as tidy numbers, one row per cell: what `arms.csv` holds."""
        import pandas as pd

        from gapbench.analysis.records import record

        records: list[dict[str, Any]] = [record(row) for row in self.rows]
        frame = pd.DataFrame(records)
        return frame.astype({"ghost_batch_size": "Int64"}) if records else frame

    def __repr__(self) -> str:
        return f"ArmsTable({len(self.rows)} cells: {self.verdict[0]})"

    def _repr_html_(self) -> str:
        from html import escape

        import pandas as pd

        parts = [f"<p>{escape(sentence)}</p>" for sentence in self.verdict]
        for panel in self.panels:
            table = pd.DataFrame([self.cells(row) for row in self.rows_of(panel)], columns=list(self.columns))
            parts += [f"<p><b>{escape(panel.title)}</b></p>", table.to_html(index=False)]
        return "".join([*parts, *(f"<p><small>{escape(note)}</small></p>" for note in self.notes)])


def arms_table(runs: pd.DataFrame, curves: pd.DataFrame) -> ArmsTable:
    """Returns the arms table of a suite from its two tables, `runs.parquet` and `curves.parquet`.

    Works on partial results: cells without an ok run have no numbers, cells with a missing or diverged seed no verdict.
    """
    from gapbench.analysis.notes import noise_notes, notes
    from gapbench.analysis.verdict import sentences

    book = Curves(curves)
    rows = [_row(panel, cell, book) for panel in read_panels(runs) for cell in panel.cells]
    rows, comparisons = _judge(rows)
    rows = _with_shares(rows)
    complete, short = columns_of(rows)
    remarks = [*notes(rows, comparisons), *noise_notes([row.cell for row in rows], book), *environment_notes(runs)]
    return ArmsTable(tuple(rows), complete, short, sentences(rows), remarks, comparisons)


def _row(panel: Panel, cell: Cell, curves: Curves) -> ArmRow:
    reference = panel.reference_of(cell)
    accuracy = cell.column("test_accuracy")
    train = cell.sample({run.run_id: run.numbers["train_accuracy"] for run in cell.ok_runs if "train_accuracy" in run.numbers})
    row = ArmRow(
        panel=panel,
        cell=cell,
        reference=reference,
        test_accuracy=t_interval([*accuracy.values()]),
        test_loss=t_interval([*cell.column("test_loss").values()]),
        train_accuracy=t_interval([*train.values()]),
        train_loss=t_interval([*cell.column("train_loss").values()]),
        train_test_gap_pp=t_interval([100 * (train[key] - accuracy[key]) for key in train]),
        published=published_value(panel, cell),
        not_comparable=not_comparable(panel, cell),
        prediction=prediction_interval([*accuracy.values()]),
        same_runs_as=original.name if (original := panel.original_of(cell)) else "",
    )
    if reference is None or reference.run_ids == cell.run_ids:
        return row
    row = replace(row, batch_gap_budget=budget_text(cell, reference), batch_gap_learning_rate=rate_text(cell))
    if panel.headline == "test_loss":
        return replace(row, batch_gap_nats=_gap_nats(reference, cell))
    gap = _gap_pp(reference, cell)
    return replace(
        row,
        batch_gap_pp=gap,
        batch_gap_examples=gap_over_examples(panel, reference, cell, gap),
        matched_loss=matched_loss_gap(reference, cell, curves),
    )


def _gap_pp(reference: Cell, cell: Cell) -> Difference | None:
    first, second = (
        {key: 100 * value for key, value in one.column("test_accuracy").items()} for one in (reference, cell)
    )  # fmt: skip
    return difference(first, second, paired=_paired(reference, cell))


def _gap_nats(reference: Cell, cell: Cell) -> Difference | None:
    return difference(cell.column("test_loss"), reference.column("test_loss"), paired=_paired(reference, cell))


def _paired(*cells: Cell) -> bool:
    return all(cell.split_drawn for cell in cells)


def _judge(rows: list[ArmRow]) -> tuple[list[ArmRow], int]:
    """Gives every row its verdict, Holm's procedure running over all rows that can have one."""
    reasons = [_no_verdict(row) for row in rows]
    judged = [position for position, row in enumerate(rows) if row.cell != row.reference and not reasons[position]]
    p_values = [gap.p_value for position in judged if (gap := rows[position].batch_gap) and gap.p_value is not None]
    adjusted = dict(zip(judged, holm(p_values), strict=True))
    out = []
    for position, row in enumerate(rows):
        if row.cell == row.reference:
            out.append(replace(row, verdict=REFERENCE))
        elif position not in adjusted:
            out.append(replace(row, verdict=f"no verdict ({reasons[position]})"))
        else:
            p_holm = adjusted[position]
            asked = GAP_PP if row.batch_gap_pp else None  # how many nats count as a gap depends on the data and the model
            seen = power(row.batch_gap, len(judged), asked=asked)
            out.append(replace(row, p_holm=p_holm, power=seen, verdict=_verdict(row, p_holm)))
    return out, len(judged)


def _verdict(row: ArmRow, p_holm: float) -> str:
    if row.batch_gap is None or p_holm > SIGNIFICANCE:
        return NOT_SEPARATED
    worse, better = (BELOW, ABOVE) if row.batch_gap_pp else (LOSS_ABOVE, LOSS_BELOW)
    return worse if row.batch_gap.estimate > 0 else better


def _no_verdict(row: ArmRow) -> str:
    """Returns why a row cannot be judged, or an empty text."""
    if row.reference is None:
        return "no reference cell"
    if row.reference.run_ids == row.cell.run_ids:
        return f"same runs as {row.reference.name}"
    if not row.cell.complete:
        return row.cell.ok_of()
    if not row.reference.complete:
        return f"{row.reference.name}: {row.reference.ok_of()}"
    gap = row.batch_gap
    if gap is None:
        return "no seed in common"
    if gap.low is None:
        return "one seed"
    return "" if gap.p_value is not None else "no spread between seeds"


def _with_shares(rows: list[ArmRow]) -> list[ArmRow]:
    """Adds the share of the gap closed where the untouched baseline cell of the same batch size is itself below the reference."""
    by_cell = {(id(row.panel), row.cell.name): row for row in rows}
    out = []
    for row in rows:
        baseline_cell = row.panel.baseline_of(row.cell)
        baseline = by_cell.get((id(row.panel), baseline_cell.name)) if baseline_cell else None
        if baseline is None or baseline.verdict != BELOW or baseline.cell == row.cell or row.p_holm is None:  # of accuracies alone
            out.append(row)
            continue
        if row.reference is None or baseline.reference is not row.reference or row.cell.run_ids == baseline.cell.run_ids:
            out.append(row)
            continue
        samples = [cell.column("test_accuracy") for cell in (row.cell, baseline.cell, row.reference)]
        ratio = share_closed(*samples, paired=_paired(row.cell, baseline.cell, row.reference))
        out.append(replace(row, share_closed=ratio, share_baseline=baseline.cell.name))
    return out
