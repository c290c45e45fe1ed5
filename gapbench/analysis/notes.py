"""What to know when reading the arms table: how its intervals are made, why a number is missing, what to be careful about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapbench.analysis.arms import ArmRow

CLIPPED = 0.01
"""A cell clipped in more than this share of its updates after the first 5 % is flagged: clipping then acts as a learning rate
that depends on the batch size."""


def notes(rows: Sequence[ArmRow], comparisons: int) -> list[str]:
    """Returns the notes under the table, the general ones first."""
    return [
        *_intervals(rows, comparisons),
        "Batch gap: test accuracy of the reference cell minus that of the cell, in percentage points, so positive is worse; budgets are "
        "against the reference cell. Losses are mean cross-entropy in nats; train loss is in evaluation mode, without augmentation.",
        *_matched(rows),
        *_shares(rows),
        *clipped(rows),
        *_published(rows),
    ]


def _intervals(rows: Sequence[ArmRow], comparisons: int) -> list[str]:
    methods = {row.batch_gap_pp.method for row in rows if row.batch_gap_pp and row.batch_gap_pp.low is not None}
    if all(row.test_accuracy is None for row in rows):
        return []
    if all(row.test_accuracy is None or row.test_accuracy.n < 2 for row in rows):
        return ["There is no interval from one seed, and so no verdict."]
    text = "Intervals are 95 %, Student t over seeds"
    if "paired" in methods:
        text += ", each of which draws its own split, so that differences are paired by split"
    elif methods:
        text += " on one fixed split, so that they say nothing about another split; differences are Welch's"
    if comparisons:
        text += f"; verdicts hold at 5 % together, by Holm's procedure over the {_count(comparisons, 'comparison')} of this table"
    return [text + "."]


def _matched(rows: Sequence[ArmRow]) -> list[str]:
    matched = [row for row in rows if row.matched_loss is not None]
    found = [row.matched_loss for row in matched if row.matched_loss and row.matched_loss.gap_pp]
    out = []
    if found:
        text = "Matched-loss gap: the same difference where both cells' smoothed train loss first reaches the lowest level that every seed"
        running = any(one.statistics == "running" for one in found)
        out.append(f"{text} of both reaches{', with running batch norm statistics, which flatter small batches early' if running else ''}.")
    reasons: dict[str, list[str]] = {}
    for row in matched:
        if row.matched_loss and row.matched_loss.reason and row.cell.ok_runs:
            reasons.setdefault(row.matched_loss.reason, []).append(row.cell.name)
    out.extend(f"No matched-loss gap for {', '.join(names)}: {reason}." for reason, names in reasons.items())
    return out


def _shares(rows: Sequence[ArmRow]) -> list[str]:
    if not any(row.share_closed for row in rows):
        return []
    return [
        "Share of gap closed: of the batch gap of the cell of the same batch size with nothing adapted, where that gap is itself "
        "separated; interval by Fieller. Training longer than the reference can go beyond it: compare with a reference trained as long."
    ]


def clipped(rows: Sequence[ArmRow]) -> list[str]:
    """Returns a note on every cell whose gradient was clipped often after the first 5 % of its updates."""
    out = []
    for row in rows:
        shares = [*row.cell.column("clipped_share_late").values()]
        if shares and (share := sum(shares) / len(shares)) > CLIPPED:
            late = f"{row.cell.name}: the gradient was clipped in {100 * share:.2g} % of the updates after the first 5 %"
            out.append(f"{late}, which lowers the learning rate.")
    return out


def _published(rows: Sequence[ArmRow]) -> list[str]:
    sources = dict.fromkeys(f"{row.published.source}; {row.published.how}" for row in rows if row.published)
    if not sources:
        return []
    text = f"Paper: {'; '.join(sources)}."
    if any(row.prediction for row in rows if row.published):
        text += " Beside it: where one new run of ours falls with probability 95 %, which a single published run is to be held against."
    return [text]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
