"""The data of the tables: a cell of the arms table with its numbers and its verdict, and a side table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.curves import MatchedLoss
from gapbench.analysis.examples import ExampleInterval
from gapbench.analysis.frames import attributes
from gapbench.analysis.paper import off_by_pp
from gapbench.analysis.stats import Difference, Estimate, Power, Ratio, bounds
from gapbench.catalog import Metric
from gapbench.catalog.published import PublishedValue

if TYPE_CHECKING:
    import pandas as pd

REFERENCE, BELOW, ABOVE = "reference", "below reference", "above reference"
LOSS_ABOVE, LOSS_BELOW = "loss above reference", "loss below reference"
"""Verdicts on cells that are compared by test loss, where above is worse."""


def verdicts_of(metric: Metric) -> tuple[str, str]:
    """Returns the verdicts on a cell that is worse, and better, than its reference cell."""
    below, above = (f"{metric.subject} {side} reference".strip() for side in ("below", "above"))
    return (below, above) if metric.direction == "higher" else (above, below)


@dataclass(frozen=True)
class ArmRow:
    """One cell of the table. Accuracies are fractions, losses in nats, `_pp` percentage points."""

    panel: Panel
    cell: Cell
    reference: Cell | None
    """The cell it is held against; None where the panel has none."""
    test_accuracy: Estimate | None
    test_loss: Estimate | None
    train_accuracy: Estimate | None
    train_loss: Estimate | None
    train_test_gap_pp: Estimate | None
    batch_gap: Difference | None = None
    """Difference to the reference cell in `metric`, in the unit of its gaps, positive is worse; None for the reference itself."""
    batch_gap_examples: ExampleInterval | None = None
    """The same gap over test examples: what another test set would say of these networks, where `batch_gap` is over seeds."""
    batch_gap_budget: str = ""
    batch_gap_learning_rate: str = ""
    p_holm: float | None = None
    """Adjusted over all cells of the table; None where there is no verdict."""
    comparisons: int | None = None
    """That the verdict is judged together with, itself included; None where there is none."""
    power: Power | None = None
    """What this comparison can see; None where there is no verdict, or where it holds several choices."""
    matched_loss: MatchedLoss | None = None
    verdict: str = ""
    share_closed: Ratio | None = None
    """Share of the batch gap of the untouched baseline cell that this cell closes; only where that gap is itself separated."""
    share_baseline: str = ""
    """Name of that baseline cell."""
    same_runs_as: str = ""
    """Name of the cell whose very runs these are; empty: they are its own."""
    published: PublishedValue | None = None
    as_published: bool = False
    """Whether both it and its reference cell are what a paper trained."""
    not_comparable: str = ""
    """Why a cell named like one of the paper's arms is not held against the paper's number."""
    prediction: tuple[float, float] | None = None
    """Where one new run of this cell falls with 95 % probability: what a published single run is held against."""

    @property
    def metric(self) -> Metric:
        """What it is compared by."""
        return self.panel.metric

    @property
    def alternatives(self) -> tuple[Cell, ...]:
        """The cells whose values might as well be those of the cell or of its reference: `batch_gap` holds whichever is right."""
        cells = dict.fromkeys((self.cell, self.reference or self.cell))
        return tuple(other for cell in cells for other in self.panel.choices_of(cell)[1:])

    @property
    def headline(self) -> Estimate | None:
        """Mean and interval of `metric` on the test examples, as a fraction or in nats."""
        return self.cell.estimate(self.metric.column("test"))

    def gap_in(self, unit: str) -> Difference | None:
        """Returns the batch gap where it is in this unit; None where it is in another."""
        return self.batch_gap if self.metric.gap_unit == unit else None

    @property
    def published_inside(self) -> bool | None:
        """Whether the published single run, rounded as it is, may lie in our prediction interval; None without either."""
        if self.published is None or self.prediction is None:
            return None
        return not off_by_pp(self.published, *self.prediction)

    @property
    def separated(self) -> bool:
        """Whether the verdict says below or above."""
        return self.verdict in verdicts_of(self.metric)


def comparisons(rows: Sequence[ArmRow]) -> int:
    """Returns the number of comparisons that Holm's procedure ran over."""
    return sum(row.p_holm is not None for row in rows)


@dataclass(frozen=True)
class SideTable:
    """A table in words and in numbers."""

    name: str
    """Of its files: `tables/<name>.csv` and `.md`."""
    title: str
    columns: tuple[str, ...]
    """Headings; the first column names the row."""
    rows: tuple[tuple[str, ...], ...]
    """Texts for people."""
    sentences: tuple[str, ...]
    """What it says, the most telling first."""
    notes: tuple[str, ...]
    """How to read it."""
    records: tuple[Mapping[str, Any], ...]
    """Its numbers, one row each."""

    def frame(self) -> pd.DataFrame:
        """Returns the numbers as a data frame: what the .csv file holds."""
        import pandas as pd

        return pd.DataFrame(list(self.records))


def side_table(
    name: str,
    title: str,
    texts: Sequence[Mapping[str, str]],
    sentences: Iterable[str],
    notes: Iterable[str],
    records: Iterable[Mapping[str, Any]],
) -> SideTable:
    """Returns a table of one or more rows, each with its texts under their headings."""
    rows = tuple(tuple(row.values()) for row in texts)
    return SideTable(name, title, tuple(texts[0]), rows, tuple(sentences), tuple(notes), tuple(records))


CHANGED = (
    "batch_size", "regime", "ghost_batch_size", "optimizer", "precision", "learning_rate", "learning_rate_rule", "planned_updates",
    "planned_examples",
)  # fmt: skip
MEASURED = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "train_test_gap_pp")
"""Of a cell and of a row, as columns of `arms.csv`."""


def record(row: ArmRow) -> dict[str, Any]:
    """Returns one row of `arms.csv`. Accuracies and shares are fractions, `_pp` percentage points; missing values are None."""
    cell, matched, examples = row.cell, row.matched_loss, row.batch_gap_examples
    gaps = {metric.gap_unit: row.gap_in(metric.gap_unit) for metric in catalog.metrics().values()}
    low, high = row.prediction or (None, None)
    return {
        **{name: getattr(row.panel, name) for name in ("dataset", "dataset_options", "model", "model_options", "recipe")},
        "preset": cell.preset,
        "cell": cell.name,
        "arm": cell.arm,
        "reference_cell": row.reference is cell,
        "reference": row.reference.name if row.reference else None,
        **{name: getattr(cell, name) for name in CHANGED},
        "n_ok": len(cell.ok_runs),
        "n_planned": len(cell.runs),
        "interval_over": "splits" if cell.split_drawn else "seeds of this split",
        **{column: value for name in MEASURED for column, value in bounds(name, getattr(row, name)).items()},
        **{name: value for unit, own in gaps.items() for name, value in _with_p(f"batch_gap_{unit}", own).items()},
        "batch_gap_p_holm": row.p_holm,
        **attributes(row.batch_gap, "method", "n", "degrees", prefix="batch_gap_"),
        **{f"batch_gap_{unit}_error": own.error if own else None for unit, own in gaps.items()},
        **attributes(examples, "low", "high", "error", prefix="batch_gap_pp_examples_"),
        "batch_gap_examples": examples.examples if examples else None,
        **attributes(examples, "reason", prefix="batch_gap_examples_"),
        **attributes(row, "comparisons", prefix="batch_gap_"),
        "batch_gap_chance_of_1_pp": row.power.chance if row.power else None,
        **{f"batch_gap_{unit}_seen_with_80_percent": row.power.smallest_gap if own and row.power else None for unit, own in gaps.items()},
        **attributes(row, "batch_gap_budget", "batch_gap_learning_rate"),
        "alternatives": len(row.alternatives),
        **_with_p("matched_loss_gap_pp", matched.gap_pp if matched else None),
        "matched_loss": matched.train_loss if matched else None,
        **attributes(matched, "statistics", "reason", prefix="matched_loss_"),
        "verdict": row.verdict,
        **bounds("share_closed", row.share_closed),
        **attributes(row, "share_baseline", "same_runs_as"),
        **attributes(row.published, "test_accuracy", "source", prefix="published_"),
        "prediction_low": low,
        "prediction_high": high,
        "published_inside": row.published_inside,
        "published_not_comparable": row.not_comparable,
        "clipped_share_late": cell.mean("clipped_share_late"),
    }


def _with_p(name: str, found: Difference | None) -> dict[str, float | None]:
    return {**bounds(name, found), f"{name.removesuffix('_pp')}_p": found.p_value if found else None}
