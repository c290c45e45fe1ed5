"""What the momentum reset costs: the same cell with it, without it, and without it at the rate of matched gain.

With a reset at every epoch momentum comes to a part of its gain only, the smaller the fewer updates an epoch has. A run without reset
whose rate is multiplied by that part is the control: what it shares with the reset is the lower rate, and what it does not is the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.differences import Difference, Ratio, holm, share_closed
from gapbench.analysis.formats import gap_text, percent, ratio_text
from gapbench.analysis.intervals import t_interval
from gapbench.analysis.side_tables import (
    NOT_SEPARATED,
    SideTable,
    accuracy_difference,
    difference_record,
    interval_words,
    judged,
    no_verdict,
)

MATCHED_GAIN = "matched gain"
_CHANGES = frozenset({"momentum reset", "no momentum reset", "rate at matched gain"})
"""What the label of a regime says of the reset and its control."""
COSTS, GAINS = "costs", "gains"


@dataclass(frozen=True)
class ResetRow:
    """A batch size with and without the reset."""

    panel: Panel
    reset: Cell
    never: Cell
    matched: Cell | None
    """Without reset, at the rate of matched gain."""
    cost_pp: Difference | None
    """Test accuracy without the reset minus that with it."""
    left_pp: Difference | None
    """Test accuracy at matched gain minus that with the reset: what of the reset is no lower rate."""
    share: Ratio | None
    """Of the batch gap that the reset makes up, against the reference cell with the reset; None where there is none."""
    cost_verdict: str = ""
    left_verdict: str = ""


def reset_table(panels: Sequence[Panel]) -> SideTable | None:
    """Returns the table of momentum resets, or None where no cell is there with and without one."""
    rows = _judged([row for panel in panels for row in _rows(panel)])
    if not rows:
        return None
    columns = (
        "cell", "batch", "with reset, %", "without, %", "without, matched gain, %", "cost of the reset, pp", "verdict",
        "share of the batch gap", "matched gain minus reset, pp", "verdict at matched gain",
    )  # fmt: skip
    texts = tuple(
        (
            row.reset.name,
            str(row.reset.batch_size),
            *(
                percent(t_interval([*cell.column("test_accuracy").values()])) if cell else ""
                for cell in (row.reset, row.never, row.matched)
            ),
            gap_text(row.cost_pp),
            row.cost_verdict,
            ratio_text(row.share) if row.share else "",
            gap_text(row.left_pp),
            row.left_verdict,
        )
        for row in rows
    )
    notes = (
        "Cost of the reset: test accuracy without it minus that with it, in percentage points. Matched gain: without reset, at the rate "
        "times the share of its gain that momentum comes to with one. Intervals are 95 % by themselves; verdicts hold at 5 % together, by "
        "Holm's procedure over all differences of this table. Share: of the batch gap with the reset, interval by Fieller.",
    )
    return SideTable(
        "momentum_reset", "What the momentum reset costs", columns, texts, tuple(_sentences(rows)), notes, tuple(map(_record, rows))
    )


def _rows(panel: Panel) -> Iterator[ResetRow]:
    groups: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for cell in panel.cells:
        groups.setdefault(_key(cell), {}).setdefault(_kind(cell), cell)
    for own in groups.values():
        if "reset" not in own or "never" not in own:
            continue
        reset, never, matched = own["reset"], own["never"], own.get("matched")
        left = accuracy_difference(matched, reset) if matched else None
        yield ResetRow(panel, reset, never, matched, accuracy_difference(never, reset), left, _share(panel, reset, never))


def _kind(cell: Cell) -> str:
    if cell.momentum_reset == "epoch":
        return "reset" if MATCHED_GAIN not in cell.learning_rate_rule else "both"
    return "matched" if MATCHED_GAIN in cell.learning_rate_rule else "never"


def _key(cell: Cell) -> tuple[Any, ...]:
    """Returns what cells that differ in the reset and its control only have in common."""
    regime = ", ".join(part for part in cell.regime.split(", ") if part not in _CHANGES)
    return (*cell.method, cell.batch_size, cell.ghost_batch_size, regime, cell.planned_updates)


def _share(panel: Panel, reset: Cell, never: Cell) -> Ratio | None:
    reference = panel.reference_of(reset)
    if reference is None or reference is reset or reference.batch_size == reset.batch_size or reference.momentum_reset != "epoch":
        return None
    gap = accuracy_difference(reference, reset)
    if gap is None or gap.low is None or gap.low <= 0:
        return None  # no gap to have a share of
    samples = [cell.column("test_accuracy") for cell in (never, reset, reference)]
    return share_closed(*samples, paired=all(cell.split_drawn for cell in (never, reset, reference)))


def _judged(rows: list[ResetRow]) -> list[ResetRow]:
    """Gives every difference its verdict, Holm's procedure running over both columns."""
    found: list[tuple[int, str, Difference | None, str]] = []
    for position, row in enumerate(rows):
        found.append((position, "cost", row.cost_pp, no_verdict(row.never, row.reset)))
        if row.matched is not None:
            found.append((position, "left", row.left_pp, no_verdict(row.matched, row.reset)))
    adjusted = iter(holm([gap.p_value for _, _, gap, reason in found if not reason and gap and gap.p_value is not None]))
    out = list(rows)
    for position, which, gap, reason in found:
        if reason or gap is None:
            verdict = f"no verdict ({reason or 'no seed in common'})"
        else:
            words = (COSTS, GAINS) if which == "cost" else ("above the reset", "below the reset")
            verdict = judged(gap, next(adjusted), above=words[0], below=words[1])
        row = out[position]
        out[position] = replace(row, cost_verdict=verdict) if which == "cost" else replace(row, left_verdict=verdict)
    return out


def _sentences(rows: Sequence[ResetRow]) -> Iterator[str]:
    for row in sorted(rows, key=lambda row: -row.reset.batch_size):
        gap, where = row.cost_pp, f"At batch {row.reset.batch_size} ({row.reset.name})"
        if gap is None or row.cost_verdict.startswith("no verdict"):
            yield f"{where} there is {row.cost_verdict} on the momentum reset."
            continue
        side = "costs" if gap.estimate >= 0 else "gains"
        words = interval_words(gap, flip=gap.estimate < 0)
        share = f", {ratio_text(row.share)} of the batch gap" if row.share and row.cost_verdict == COSTS else ""
        if row.cost_verdict == NOT_SEPARATED:
            head = f"{where} the momentum reset is not separated from none (it {side} {abs(gap.estimate):.2f} pp; {words})"
        else:
            head = f"{where} the momentum reset {side} {abs(gap.estimate):.2f} pp ({words}){share}"
        yield f"{head}{_control(row)}."


def _control(row: ResetRow) -> str:
    gap = row.left_pp
    if gap is None or row.left_verdict.startswith("no verdict"):
        return ""
    side = "above" if gap.estimate >= 0 else "below"
    words = f"{abs(gap.estimate):.2f} pp {side} it; {interval_words(gap, flip=gap.estimate < 0)}"
    if row.left_verdict == NOT_SEPARATED:
        return f"; without reset at matched gain is not separated from it ({words}), so these runs do not tell the reset from a lower rate"
    return f"; without reset at matched gain is separated from it ({words}), so the reset is not only a lower rate"


def _record(row: ResetRow) -> dict[str, Any]:
    means = {
        name: estimate.mean if cell and (estimate := t_interval([*cell.column("test_accuracy").values()])) else None
        for name, cell in (("reset", row.reset), ("no_reset", row.never), ("matched_gain", row.matched))
    }
    share = row.share
    return {
        "dataset": row.panel.dataset,
        "model": row.panel.model,
        "recipe": row.panel.recipe,
        "preset": row.reset.preset,
        "cell": row.reset.name,
        "batch_size": row.reset.batch_size,
        **{f"{name}_test_accuracy": mean for name, mean in means.items()},
        **difference_record("reset_cost_pp", row.cost_pp),
        "reset_cost_verdict": row.cost_verdict,
        "reset_share": share.estimate if share else None,
        "reset_share_low": share.low if share else None,
        "reset_share_high": share.high if share else None,
        **difference_record("matched_gain_minus_reset_pp", row.left_pp),
        "matched_gain_verdict": row.left_verdict or None,
    }
