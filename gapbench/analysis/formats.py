"""Short texts for people: percent, percentage points, intervals, budgets and learning rates; the columns of the arms table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapbench.analysis.arms import ArmRow
    from gapbench.analysis.cells import Cell
    from gapbench.analysis.stats import Difference, Estimate, Ratio

ArmCells = Mapping[str, str]

MINUS = "−"
ARM, BATCH, GHOST, RATE, COUNT = "arm", "batch", "ghost", "learning rate", "n ok of n"
ACCURACY, TEST_LOSS, TRAIN_LOSS, TRAIN_TEST = "test accuracy, %", "test loss", "train loss", "train-test gap, pp"
GAP_NATS = "batch gap, nats"
GAP, EXAMPLES, AT, MATCHED = "batch gap, pp", "other test set, pp", "budget; rate", "matched-loss gap, pp"
VERDICT, SHARE, PAPER = "verdict", "share of gap closed", "paper, %"

COLUMNS = (
    ARM, BATCH, GHOST, RATE, COUNT, ACCURACY, TEST_LOSS, TRAIN_LOSS, TRAIN_TEST, GAP, GAP_NATS, EXAMPLES, AT, MATCHED, VERDICT,
    SHARE, PAPER,
)  # fmt: skip
SHORT_COLUMNS = (ARM, COUNT, ACCURACY, TEST_LOSS, TRAIN_LOSS, GAP, GAP_NATS, AT, VERDICT, SHARE)
NEVER_DROPPED = frozenset({ARM, BATCH, COUNT, ACCURACY, TEST_LOSS, TRAIN_LOSS, VERDICT})


def format_row(row: ArmRow) -> dict[str, str]:
    """Returns the text of a row under every heading of COLUMNS; empty where there is nothing to say."""
    cell = row.cell
    against = f"against {row.reference.name}" if row.reference is not None and row.cell.held_against else ""
    return {
        ARM: cell.name,
        BATCH: str(cell.batch_size),
        GHOST: "off" if cell.ghost_batch_size is None else str(cell.ghost_batch_size),
        RATE: f"{cell.learning_rate:.3g}",
        COUNT: f"{len(cell.ok_runs)} of {len(cell.runs)}",
        ACCURACY: percent(row.test_accuracy),
        TEST_LOSS: loss(row.test_loss),
        TRAIN_LOSS: loss(row.train_loss),
        TRAIN_TEST: estimate_text(row.train_test_gap_pp, 1, 2),
        GAP: gap_text(row.batch_gap_pp),
        GAP_NATS: nats_text(row.batch_gap_nats),
        EXAMPLES: examples_text(row),
        AT: "; ".join(part for part in (row.batch_gap_budget, row.batch_gap_learning_rate, against) if part) if row.batch_gap else "",
        MATCHED: matched_text(row),
        VERDICT: row.verdict.replace("reference", row.reference.name) if against and row.reference else row.verdict,
        SHARE: share_text(row),
        PAPER: paper_text(row),
    }


def columns_of(rows: Sequence[ArmRow]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the columns that say something in at least one row, all of them and those that fit a terminal."""
    texts = [format_row(row) for row in rows]
    kept = NEVER_DROPPED - ({ACCURACY} if rows and all(row.panel.headline == "test_loss" for row in rows) else set())
    telling = {column for column in COLUMNS if any(text[column] not in ("", "off") for text in texts)} | kept
    return tuple(column for column in COLUMNS if column in telling), tuple(column for column in SHORT_COLUMNS if column in telling)


@dataclass(frozen=True)
class Lengths:
    """How long a cell trains against its reference cell."""

    equal_examples: bool
    """Whether they differ by less than one batch, since updates are whole."""
    equal_updates: bool
    ratio: str
    """How many times the examples."""


def lengths_of(cell: Cell, reference: Cell) -> Lengths:
    """Returns how long a cell trains against its reference cell."""
    return Lengths(
        abs(cell.planned_examples - reference.planned_examples) < max(cell.batch_size, reference.batch_size),
        not (cell.adaptive or reference.adaptive) and cell.planned_updates == reference.planned_updates,
        f"{cell.planned_examples / reference.planned_examples:.3g} × examples",
    )


def budget_text(cell: Cell, reference: Cell) -> str:
    """Names a cell's budget against the reference's: equal examples, equal updates, or how many times the examples."""
    lengths = lengths_of(cell, reference)
    if lengths.equal_examples:
        return "equal examples and updates" if lengths.equal_updates else "equal examples"
    return f"equal updates, {lengths.ratio}" if lengths.equal_updates else lengths.ratio


def rate_text(cell: Cell) -> str:
    """Names how a cell's learning rate came about."""
    rule = cell.learning_rate_rule
    return f"by rule {rule}" if cell.scaling_rule in ("sqrt", "linear") else rule


def signed(value: float, digits: int) -> str:
    """Returns a number with a true minus sign and no negative zero."""
    text = f"{abs(value):.{digits}f}"
    return text if value >= 0 or float(text) == 0 else MINUS + text


def estimate_text(estimate: Estimate | None, factor: float, digits: int) -> str:
    """Returns "mean ± half width", or the mean alone from one value."""
    if estimate is None:
        return ""
    mean = signed(factor * estimate.mean, digits)
    return mean if estimate.half_width is None else f"{mean} ± {factor * estimate.half_width:.{digits}f}"


def percent(estimate: Estimate | None) -> str:
    """Returns a fraction as percent with two decimals."""
    return estimate_text(estimate, 100, 2)


def loss(estimate: Estimate | None) -> str:
    """Returns a loss with three significant digits."""
    if estimate is None:
        return ""
    size = abs(estimate.mean)
    if 0 < size < 1e-4 or size >= 1e6:
        return f"{estimate.mean:.2e}" + ("" if estimate.half_width is None else f" ± {estimate.half_width:.1e}")
    return estimate_text(estimate, 1, 2 if size == 0 else max(0, 2 - math.floor(math.log10(size))))


def range_text(low: float, high: float, digits: int) -> str:
    """Returns "low to high"."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def gap_text(gap: Difference | None) -> str:
    """Returns "1.66 (1.32 to 2.00)": a difference in percentage points with its interval."""
    if gap is None:
        return ""
    text = signed(gap.estimate, 2)
    return text if gap.low is None or gap.high is None else f"{text} ({range_text(gap.low, gap.high, 2)})"


def nats_text(gap: Difference | None) -> str:
    """Returns "1.66 (1.32 to 2.00)": a difference in nats with its interval, to two digits of its error (or else of itself)."""
    if gap is None:
        return ""
    digits = nats_digits(gap.error or gap.estimate)
    text = signed(gap.estimate, digits)
    return text if gap.low is None or gap.high is None else f"{text} ({range_text(gap.low, gap.high, digits)})"


def nats_digits(size: float) -> int:
    """Returns how many decimals show two digits of a loss or its error; losses, unlike accuracies, have no scale of their own."""
    return 2 if size == 0 else max(0, 1 - math.floor(math.log10(abs(size))))


def examples_text(row: ArmRow) -> str:
    """Returns the interval of the batch gap over test examples; empty where there is none (the reason stands in the notes)."""
    found = row.batch_gap_examples
    return "" if found is None or found.low is None or found.high is None else range_text(found.low, found.high, 2)


def matched_text(row: ArmRow) -> str:
    """Returns the matched-loss gap and its train loss, or NA (the reason stands in the notes)."""
    matched = row.matched_loss
    if matched is None or row.test_accuracy is None:
        return ""
    if matched.gap_pp is None or matched.train_loss is None:
        return "NA"
    return f"{gap_text(matched.gap_pp)} at {matched.train_loss:.2g}"


def share_text(row: ArmRow) -> str:
    """Returns the share of the gap closed; beyond 100 % "above" the reference cell's name; of the baseline under another name, which."""
    if row.share_closed is None or row.reference is None:
        baseline = row.panel.baseline_of(row.cell) if row.separated else None
        again = baseline is not None and baseline is not row.cell and baseline.run_ids == row.cell.run_ids
        return f"same runs as {baseline.name}" if baseline is not None and again else ""
    if row.share_closed.estimate > 1:
        return f"above {row.reference.name}" + ("" if row.separated else ", not separated")
    return ratio_text(row.share_closed)


def ratio_text(ratio: Ratio) -> str:
    """Returns a share as percent with its interval."""
    text = f"{signed(100 * ratio.estimate, 0)} %"
    return text if ratio.low is None or ratio.high is None else f"{text} ({range_text(100 * ratio.low, 100 * ratio.high, 0)})"


def paper_text(row: ArmRow) -> str:
    """Returns the published accuracy and whether it is consistent with where one new run of ours would fall, or off by how much."""
    if row.published is None:
        return ""
    text = f"{100 * row.published.test_accuracy:.2f}"
    if row.prediction is None:
        return text
    low, high = row.prediction
    off = row.published.off_by_pp(low, high)
    where = "consistent with" if not off else f"{abs(off):.2f} pp {'above' if off > 0 else 'below'}"
    return f"{text}, {where} {range_text(100 * low, 100 * high, 2)}"
