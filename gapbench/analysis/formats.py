"""Short texts for people: percent, percentage points, intervals, budgets and learning rates; the columns of the arms table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import DIFFERENT_PHASES
from gapbench.analysis.paper import off_by_pp
from gapbench.analysis.rows import ArmRow
from gapbench.analysis.stats import Difference, Estimate, Power, Ratio
from gapbench.catalog import Metric

MINUS = "−"
ARM, BATCH, GHOST, RATE, COUNT = "arm", "batch", "ghost", "learning rate", "n ok of n"
ACCURACY, TEST_LOSS, TRAIN_LOSS, TRAIN_TEST = "test accuracy, %", "test loss", "train loss", "train-test gap, pp"
GAP_NATS = "batch gap, nats"
GAP, EXAMPLES, AT, MATCHED = "batch gap, pp", "other test set, pp", "budget; rate", "matched-loss gap, pp"
VERDICT, SHARE, PAPER = "verdict", "share of gap closed", "paper, %"

LONG = frozenset({BATCH, GHOST, RATE, TRAIN_TEST, EXAMPLES, MATCHED, PAPER})
"""Columns that a terminal has no room for."""
NEVER_DROPPED = frozenset({ARM, BATCH, COUNT, TEST_LOSS, TRAIN_LOSS, VERDICT})


def format_row(row: ArmRow) -> dict[str, str]:
    """Returns the text of a row under every heading, in order; empty where there is nothing to say."""
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
        GAP: gap_text(row.gap_in("pp"), row.metric),
        GAP_NATS: gap_text(row.gap_in("nats"), row.metric),
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
    kept = NEVER_DROPPED | ({ACCURACY} if any(row.metric.name == "accuracy" for row in rows) else set())
    telling = [column for column in texts[0] if column in kept or any(text[column] not in ("", "off") for text in texts)] if texts else []
    return tuple(telling), tuple(column for column in telling if column not in LONG)


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


def rate_text(cell: Cell, *alternatives: Cell) -> str:
    """Names how a cell's learning rate came about, and from where to where it and its alternatives reach."""
    rule = f"by rule {cell.learning_rate_rule}" if cell.scaling_rule in ("sqrt", "linear") else cell.learning_rate_rule
    rates = [choice.learning_rate for choice in (cell, *alternatives)]
    return rule if min(rates) == max(rates) else f"{rule} ({min(rates):g} to {max(rates):g})"


def signed(value: float, digits: int) -> str:
    """Returns a number with a true minus sign and no negative zero."""
    text = f"{abs(value):.{digits}f}"
    return text if value >= 0 or float(text) == 0 else MINUS + text


def counted(number: int, noun: str) -> str:
    """Returns "1 run" or "7 runs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(parts: Sequence[str]) -> str:
    """Returns "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


MANY = 6
"""Names that a sentence lists at most."""
MANY_WORDS = 24
"""That these names take at most, but for the first one."""


def some(names: Sequence[str]) -> str:
    """Returns "a, b and 3 more": of many names the first few, and how many more, so that a sentence keeps a length that is read."""
    words = itertools.accumulate(len(name.split()) for name in names)
    few = max(1, sum(so_far <= MANY_WORDS for so_far in itertools.islice(words, MANY)))
    return listed([*names[:few], *([f"{len(names) - few} more"] if len(names) > few else [])])


def large(value: float) -> str:
    """Returns a number of examples or updates with at least three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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
    size = abs(estimate.mean) if estimate else 0.0
    if estimate and (0 < size < 1e-4 or size >= 1e6):
        return f"{estimate.mean:.2e}" + ("" if estimate.half_width is None else f" ± {estimate.half_width:.1e}")
    return estimate_text(estimate, 1, 2 if size == 0 else max(0, 2 - math.floor(math.log10(size))))


def range_text(low: float, high: float, digits: int) -> str:
    """Returns "low to high"."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def interval_text(found: Difference | Ratio, digits: int, *, factor: float = 1.0, unit: str = "") -> str:
    """Returns "1.66 (1.32 to 2.00)": a number with its interval, or alone where it has none."""
    text = signed(factor * found.estimate, digits) + unit
    return text if found.low is None or found.high is None else f"{text} ({range_text(factor * found.low, factor * found.high, digits)})"


def gap_text(gap: Difference | None, metric: Metric) -> str:
    """Returns a difference in the unit of a metric's gaps with its interval."""
    return interval_text(gap, gap_digits(metric, gap.error or gap.estimate)) if gap else ""


def gap_digits(metric: Metric, size: float) -> int:
    """Returns how many decimals a gap has: the metric's, or else as many as show two digits of `size`, its error or the gap itself.

    Losses, unlike accuracies, have no scale of their own.
    """
    if metric.decimals is not None:
        return metric.decimals
    return 2 if size == 0 else max(0, 1 - math.floor(math.log10(abs(size))))


def interval_words(gap: Difference, digits: int = 2) -> str:
    """Returns "95 % interval 0.10 to 0.40; n = 5", with the sign of the words beside it, which give the size of the difference."""
    if gap.low is None or gap.high is None:
        return "no interval from one seed"
    low, high = (gap.low, gap.high) if gap.estimate >= 0 else (-gap.high, -gap.low)
    return f"95 % interval {range_text(low, high, digits)}; n = {gap.n}"


def chances_text(found: Sequence[Power], metric: Metric) -> str:
    """Returns "a gap of 1 pp would have been seen with probability 93 %", or the range where there are several.

    Empty where none of them was asked for its chance, as of gaps in nats.
    """
    chances = [one.chance for one in found if one.chance is not None]
    if not chances:
        return ""
    shown = " to ".join(dict.fromkeys(map(_percent, (min(chances), max(chances)))))
    return f"a gap of {metric.notable_gap:g} {metric.gap_unit} would have been seen with probability {shown} %"


def _percent(chance: float) -> str:
    """Returns a chance as a whole percent that never says certain or impossible."""
    return "> 99" if chance > 0.99 else "< 1" if chance < 0.01 else f"{100 * chance:.0f}"


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
        return DIFFERENT_PHASES if matched.reason == DIFFERENT_PHASES else "NA"
    return f"{gap_text(matched.gap_pp, row.metric)} at {matched.train_loss:.2g}"


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
    return interval_text(ratio, 0, factor=100, unit=" %")


def paper_text(row: ArmRow) -> str:
    """Returns the published accuracy and whether it is consistent with where one new run of ours would fall, or off by how much."""
    if row.published is None:
        return ""
    text = f"{100 * row.published.test_accuracy:.2f}"
    if row.prediction is None:
        return text
    low, high = row.prediction
    off = off_by_pp(row.published, low, high)
    where = "consistent with" if not off else f"{abs(off):.2f} pp {'above' if off > 0 else 'below'}"
    return f"{text}, {where} {range_text(100 * low, 100 * high, 2)}"
