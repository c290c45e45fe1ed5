"""The arms table: every cell with its intervals, its gaps against the reference cell, a verdict, and the paper's number beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Cell, Panel, is_paired, read_panels
from gapbench.analysis.curves import Curves, matched_loss_gap
from gapbench.analysis.environment import environment_notes
from gapbench.analysis.examples import gap_over_examples
from gapbench.analysis.formats import budget_text, columns_of, format_row, rate_text
from gapbench.analysis.notes import noise_notes, notes
from gapbench.analysis.paper import not_comparable, published_value
from gapbench.analysis.rows import BELOW, REFERENCE, ArmRow, comparisons, record, verdicts_of
from gapbench.analysis.stats import judge, power, prediction_interval, share_closed, t_interval, unjudged
from gapbench.analysis.verdict import Verdict, sentences, verdicts

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
    verdicts: tuple[Verdict, ...]
    """What it says of each panel, in order."""
    notes: list[str]
    """How to read the table, and what to be careful about."""

    @property
    def verdict(self) -> list[str]:
        """All sentences; the answer on the first panel is the first."""
        return sentences(self.verdicts)

    @property
    def comparisons(self) -> int:
        """Number of comparisons that Holm's procedure ran over."""
        return comparisons(self.rows)

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
    rows = _with_shares(_judged([_row(panel, cell, book) for panel in read_panels(runs) for cell in panel.cells]))
    remarks = [*notes(rows), *noise_notes([row.cell for row in rows], book), *environment_notes(runs)]
    return ArmsTable(tuple(rows), *columns_of(rows), verdicts(rows), remarks)


def _row(panel: Panel, cell: Cell, curves: Curves) -> ArmRow:
    reference = panel.reference_of(cell)
    accuracy, train = cell.column("test_accuracy"), cell.column("train_accuracy")
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
    as_published = row.published is not None and published_value(panel, reference) is not None
    gap = panel.gap(reference, cell)
    budget, rate = budget_text(cell, reference), rate_text(*panel.choices_of(cell))
    row = replace(row, batch_gap=gap, batch_gap_budget=budget, batch_gap_learning_rate=rate, as_published=as_published)
    if panel.metric.name != "accuracy":
        return row
    over_examples, matched = gap_over_examples(panel, reference, cell, gap), matched_loss_gap(reference, cell, curves)
    return replace(row, batch_gap_examples=over_examples, matched_loss=matched)


def _judged(rows: list[ArmRow]) -> list[ArmRow]:
    """Gives every row its verdict, Holm's procedure running over all rows that can have one."""
    verdicts = judge([(row.batch_gap, _no_verdict(row), *verdicts_of(row.metric)) for row in rows])
    found = [
        replace(row, p_holm=p_holm, verdict=REFERENCE if row.cell is row.reference else verdict)
        for row, (p_holm, verdict) in zip(rows, verdicts, strict=True)
    ]
    family = comparisons(found)
    found = [replace(row, comparisons=family) if row.p_holm is not None else row for row in found]
    # Power is worked out from one pair of cells: of a gap that holds several choices it would promise too much.
    return [
        replace(row, power=power(row.batch_gap, family, asked=row.metric.notable_gap)) if row.comparisons and not row.alternatives else row
        for row in found
    ]


def _no_verdict(row: ArmRow) -> str:
    """Returns why a row cannot be judged, or an empty text."""
    if row.reference is None:
        return "no reference cell"
    if row.reference.run_ids == row.cell.run_ids:
        return f"same runs as {row.reference.name}"
    if not row.cell.complete:
        return row.cell.ok_of()
    if missing := next((cell for cell in (row.reference, *row.alternatives) if not cell.complete), None):
        return f"{missing.name}: {missing.ok_of()}"
    return unjudged(row.batch_gap)


def _with_shares(rows: list[ArmRow]) -> list[ArmRow]:
    """Adds the share of the gap closed where the untouched baseline cell of the same batch size is itself below the reference."""
    below = {row.cell: row.reference for row in rows if row.verdict == BELOW}  # of accuracies alone
    out = []
    for row in rows:
        reference, baseline = row.reference, row.panel.baseline_of(row.cell)
        of_its_own = baseline is not None and baseline.run_ids != row.cell.run_ids and not row.alternatives
        if row.p_holm is not None and reference and baseline and of_its_own and below.get(baseline) is reference:
            samples = [cell.column("test_accuracy") for cell in (row.cell, baseline, reference)]
            ratio = share_closed(*samples, paired=is_paired(row.cell, baseline, reference))
            row = replace(row, share_closed=ratio, share_baseline=baseline.name)
        out.append(row)
    return out
