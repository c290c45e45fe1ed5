"""The arms table: every cell with its intervals, its gaps against the reference cell, a verdict, and the paper's number beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Cell, Panel, cell_difference, is_paired, read_panels
from gapbench.analysis.curves import Curves, matched_loss_gap
from gapbench.analysis.environment import environment_notes
from gapbench.analysis.examples import gap_over_examples
from gapbench.analysis.formats import budget_text, columns_of, format_row, rate_text
from gapbench.analysis.notes import noise_notes, notes
from gapbench.analysis.paper import not_comparable, published_value
from gapbench.analysis.rows import BELOW, REFERENCE, ArmRow, record, verdicts_of
from gapbench.analysis.stats import holm, power, prediction_interval, share_closed, t_interval, verdict_on
from gapbench.analysis.verdict import sentences

if TYPE_CHECKING:
    import pandas as pd


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
        texts = format_row(row)
        return tuple(texts[column] for column in columns or self.columns)

    def frame(self) -> pd.DataFrame:
        """Returns the table as tidy numbers, one row per cell: what `arms.csv` holds."""
        import pandas as pd

        records = [record(row) for row in self.rows]
        frame = pd.DataFrame(records)
        return frame.astype({"ghost_batch_size": "Int64"}) if records else frame

    def __repr__(self) -> str:
        return f"ArmsTable({len(self.rows)} cells: {self.verdict[0]})"

    def _repr_html_(self) -> str:
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
        test_accuracy=cell.estimate("test_accuracy"),
        test_loss=cell.estimate("test_loss"),
        train_accuracy=cell.estimate("train_accuracy"),
        train_loss=cell.estimate("train_loss"),
        train_test_gap_pp=t_interval([100 * (train[key] - accuracy[key]) for key in train]),
        published=published_value(panel, cell),
        not_comparable=not_comparable(panel, cell),
        prediction=prediction_interval([*accuracy.values()]),
        same_runs_as=original.name if (original := panel.original_of(cell)) else "",
    )
    if reference is None or reference.run_ids == cell.run_ids:
        return row
    row = replace(row, batch_gap_budget=budget_text(cell, reference), batch_gap_learning_rate=rate_text(cell))
    gap = cell_difference(*panel.metric.gap_terms(reference, cell), panel.metric)
    if panel.metric.name != "accuracy":
        return replace(row, batch_gap=gap)
    return replace(
        row,
        batch_gap=gap,
        batch_gap_examples=gap_over_examples(panel, reference, cell, gap),
        matched_loss=matched_loss_gap(reference, cell, curves),
    )


def _judge(rows: list[ArmRow]) -> tuple[list[ArmRow], int]:
    """Gives every row its verdict, Holm's procedure running over all rows that can have one."""
    reasons = ["reference" if row.cell == row.reference else _no_verdict(row) for row in rows]
    adjusted = holm([row.batch_gap.p_value if row.batch_gap and not reason else None for row, reason in zip(rows, reasons, strict=True)])
    comparisons = sum(p_holm is not None for p_holm in adjusted)
    out = []
    for row, reason, p_holm in zip(rows, reasons, adjusted, strict=True):
        if row.batch_gap is None or p_holm is None:
            out.append(replace(row, verdict=REFERENCE if row.cell == row.reference else f"no verdict ({reason})"))
            continue
        worse, better = verdicts_of(row.metric)
        verdict = verdict_on(row.batch_gap.estimate, p_holm, above=worse, below=better)
        seen = power(row.batch_gap, comparisons, asked=row.metric.notable_gap)
        out.append(replace(row, p_holm=p_holm, power=seen, verdict=verdict))
    return out, comparisons


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
        ratio = share_closed(*samples, paired=is_paired(row.cell, baseline.cell, row.reference))
        out.append(replace(row, share_closed=ratio, share_baseline=baseline.cell.name))
    return out
