"""Test accuracy at equal final train loss: arms of several lengths, each annealed to its end, read between their lengths.

Two runs of one length that reach equal loss in different phases of their schedules differ by who had annealed. Here every point is the end
of a run, so what is left at equal loss is generalization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, in_unit, is_paired
from gapbench.analysis.formats import counted, gap_text, interval_words, percent
from gapbench.analysis.frames import grouped
from gapbench.analysis.rows import ABOVE, BELOW, SideTable, side_table
from gapbench.analysis.stats import NOT_SEPARATED, Array, Difference, Estimate, bounds, combination, judge, t_interval, unjudged

LENGTHS = frozenset({"budget", "epochs", "updates"})
"""Axes along which an arm is trained longer."""
FEWEST = 3
"""Lengths of an arm that can be read between."""
NODES = 4
"""Lengths that a reading between two of them uses: a cubic through the nearest ones."""


@dataclass(frozen=True, eq=False)
class Family:
    """The cells of one arm that differ only in their length, the shortest first."""

    panel: Panel
    name: str
    cells: tuple[Cell, ...]

    def descending(self) -> tuple[Cell, ...]:
        """Returns its cells as far as the mean final loss falls with length."""
        kept: list[Cell] = []
        for cell in self.cells:
            if kept and _level(cell) >= _level(kept[-1]):
                break
            kept.append(cell)
        return tuple(kept)


@dataclass(frozen=True)
class EqualLoss:
    """One arm against its reference arm at one final train loss."""

    family: Family
    reference: Family
    train_loss: float
    """In nats."""
    accuracy: Estimate | None = None
    reference_accuracy: Estimate | None = None
    """Read at that loss, fractions of 1."""
    gap_pp: Difference | None = None
    """Reference minus arm, percentage points."""
    judged: bool = False
    """Whether it is the one level at which the two arms are judged; others are estimates."""
    reason: str = ""
    """Why it has no verdict."""
    p_holm: float | None = None
    verdict: str = ""


def families(panel: Panel) -> tuple[Family, ...]:
    """Returns the arms of a panel that were trained at several lengths."""
    of_lengths = [cell for cell in panel.cells if any(name in cell.words for name in LENGTHS)]
    found = grouped((", ".join(word for name, word in cell.words.items() if name not in LENGTHS), cell) for cell in of_lengths)
    ordered = {name: sorted(cells, key=lambda cell: cell.planned_examples) for name, cells in found.items()}
    return tuple(Family(panel, name, tuple(cells)) for name, cells in ordered.items() if len(cells) >= FEWEST)


def equal_losses(panels: Sequence[Panel]) -> tuple[EqualLoss, ...]:
    """Returns every arm of several lengths against the arm of its reference cell, judged together at one level each."""
    rows: list[EqualLoss] = []
    for panel in panels:
        found = families(panel)
        by_cell = {cell: family for family in found for cell in family.cells}
        for family in found:
            reference = panel.reference_of(family.cells[0])
            if reference is not None and (other := by_cell.get(reference)) is not None and other is not family:
                rows += _against(family, other)
    verdicts = judge([(row.gap_pp, row.reason, BELOW, ABOVE) for row in rows])
    return tuple(replace(row, p_holm=p_holm, verdict=verdict) for row, (p_holm, verdict) in zip(rows, verdicts, strict=True))


def _against(family: Family, other: Family) -> Iterator[EqualLoss]:
    """Yields an arm against its reference arm at the final loss of each length of the reference arm that both arms pass.

    It is judged at the recipe's own length or, where the arm does not pass that loss, at the nearest.
    """
    cells = [*family.cells, *other.cells]
    if incomplete := [cell for cell in cells if not cell.complete]:
        yield EqualLoss(family, other, float("nan"), reason=f"{incomplete[0].name}: {incomplete[0].ok_of()}")
        return
    own, others = family.descending(), other.descending()
    levels = [cell for cell in others if _level(own[0]) >= _level(cell) >= _level(own[-1])]
    if not levels or min(len(own), len(others)) < FEWEST:
        yield EqualLoss(family, other, float("nan"), reason="their final losses do not overlap")
        return
    chosen = min(levels, key=lambda cell: abs(np.log(cell.planned_examples / cell.reference_examples)))
    for cell in levels:
        row = _at(family, other, own, others, _level(cell))
        yield replace(row, judged=cell is chosen, reason=unjudged(row.gap_pp) if cell is chosen else "another level is judged")


def _at(family: Family, other: Family, own: Sequence[Cell], others: Sequence[Cell], level: float) -> EqualLoss:
    sides = [reading(cells, level) for cells in (others, own)]
    paired = is_paired(*own, *others)
    samples = [sample for side in sides for sample, _ in side]
    weights = [sign * weight for sign, side in zip((1.0, -1.0), sides, strict=True) for _, weight in side]
    gap = combination(samples, weights, paired=paired)
    read = [_estimate(side, paired=paired) for side in sides]
    return EqualLoss(family, other, float(np.exp(level)), read[1], read[0], gap)


def reading(cells: Sequence[Cell], level: float) -> list[tuple[dict[int, float], float]]:
    """Returns what an accuracy read at a level is the weighted sum of: for the nearest lengths a sample, in percent, and its weight.

    The reading is a polynomial through the lengths' mean log loss and mean accuracy. A run whose loss lies off the mean of its length moves
    the polynomial, to first order by its slope there, so a sample is accuracy less slope times that deviation; the sum has then the error
    of the reading.

    Args:
        cells: of one arm, in order of falling loss.
        level: log of the train loss, within theirs.
    """
    position = next(index for index, cell in enumerate(cells) if _level(cell) <= level)
    start = min(max(0, position - NODES // 2), max(0, len(cells) - NODES))
    used = cells[start : start + NODES]
    losses = [_log_losses(cell) for cell in used]
    accuracies = [in_unit(cell, catalog.metrics()["accuracy"]) for cell in used]
    nodes = np.array([_mean(own) for own in losses])
    weights = lagrange(nodes, level)
    slopes = lagrange_slopes(nodes) @ np.array([_mean(own) for own in accuracies])
    samples = [
        {key: value - slope * (loss[key] - node) for key, value in accuracy.items()}
        for accuracy, loss, node, slope in zip(accuracies, losses, nodes, slopes, strict=True)
    ]
    return list(zip(samples, weights.tolist(), strict=True))


def lagrange(nodes: Array, at: float) -> Array:
    """Returns the weight of each node's value in the polynomial through all of them, at a point."""
    apart = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(apart, 1.0)
    factors = np.where(np.eye(len(nodes), dtype=bool), 1.0, at - nodes[None, :])
    weights: Array = (factors / apart).prod(axis=1)
    return weights


def lagrange_slopes(nodes: Array) -> Array:
    """Returns [node, value]: the weight of each node's value in the slope of the polynomial at each node."""
    apart = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(apart, 1.0)
    barycentric = 1.0 / apart.prod(axis=1)
    slopes: Array = barycentric[None, :] / barycentric[:, None] / apart
    np.fill_diagonal(slopes, 0.0)
    np.fill_diagonal(slopes, -slopes.sum(axis=1))
    return slopes


def _estimate(side: Sequence[tuple[Mapping[int, float], float]], *, paired: bool) -> Estimate | None:
    found = combination([sample for sample, _ in side], [weight for _, weight in side], paired=paired)
    if found is None or found.low is None or found.high is None:
        return None if found is None else Estimate(found.estimate / 100, None, None, 1)
    return Estimate(found.estimate / 100, found.low / 100, found.high / 100, found.n)


def _log_losses(cell: Cell) -> dict[int, float]:
    return {key: float(np.log(max(value, _SMALLEST_LOSS))) for key, value in cell.column("train_loss").items()}


_SMALLEST_LOSS = 1e-12


def final_loss(cell: Cell) -> float:
    """Returns the final train loss of a cell: the exponential of the mean of its logarithm over the ok runs, in nats."""
    return float(np.exp(_level(cell)))


def _level(cell: Cell) -> float:
    return _mean(_log_losses(cell))


def _mean(sample: Mapping[int, float]) -> float:
    found = t_interval([*sample.values()])
    assert found is not None  # only complete cells come here
    return found.mean


# The table.


def equal_loss_table(panels: Sequence[Panel]) -> SideTable | None:
    """Returns the table of arms at equal final train loss, or None where no arm was trained at several lengths."""
    rows = equal_losses(panels)
    if not rows:
        return None
    accuracy = catalog.metrics()["accuracy"]
    texts = [
        {
            "arm": row.family.name,
            "reference": row.reference.name,
            "final train loss": f"{row.train_loss:.2g}" if row.gap_pp else "",
            "accuracy, %": percent(row.accuracy),
            "of the reference, %": percent(row.reference_accuracy),
            "gap, pp": gap_text(row.gap_pp, accuracy),
            "verdict": row.verdict if row.judged or not row.gap_pp else "",
        }
        for row in rows
    ]
    return side_table("equal-loss", "At equal final train loss", texts, _sentences(rows), _notes(rows), map(_record, rows))


def _sentences(rows: Sequence[EqualLoss]) -> Iterator[str]:
    for row in rows:
        if row.gap_pp is None:
            yield f"{row.family.name} cannot be read at a final train loss of {row.reference.name}: {row.reason}."
        elif row.judged:
            yield f"At equal final train loss ({row.train_loss:.2g}), {_said(row, row.gap_pp)}."


def _said(row: EqualLoss, gap: Difference) -> str:
    size, words = f"{abs(gap.estimate):.2f} pp", interval_words(gap)
    if row.p_holm is None:
        return f"accuracy of {row.reference.name} minus that of {row.family.name} is {gap.estimate:.2f} pp ({row.reason})"
    if row.verdict == NOT_SEPARATED:
        side = "below" if gap.estimate >= 0 else "above"
        return f"{row.family.name} is not separated from {row.reference.name} ({size} {side}; {words})"
    return f"{row.family.name} {'loses' if gap.estimate >= 0 else 'gains'} {size} against {row.reference.name} ({words})"


def _notes(rows: Sequence[EqualLoss]) -> list[str]:
    judged = sum(row.p_holm is not None for row in rows)
    return [
        "Every arm was trained at several lengths, each annealed to its end. Accuracies are read at equal final train loss (mean of its "
        "logarithm over seeds) by a cubic through the nearest lengths; intervals contain the spread of both losses and accuracies.",
        "Each arm is judged at one level: the final loss of its reference arm at the recipe's length, or the nearest that both pass. "
        f"Verdicts hold together, by Holm's procedure over {counted(judged, 'comparison')}; rows without one are estimates.",
    ]


def _record(row: EqualLoss) -> dict[str, Any]:
    return {
        **row.family.panel.about,
        "arm": row.family.name,
        "reference": row.reference.name,
        "train_loss": row.train_loss,
        **bounds("test_accuracy", row.accuracy),
        **bounds("reference_test_accuracy", row.reference_accuracy),
        **bounds("gap_pp", row.gap_pp),
        "gap_p": row.gap_pp.p_value if row.gap_pp else None,
        "gap_p_holm": row.p_holm,
        "n": row.gap_pp.n if row.gap_pp else None,
        "judged": row.judged,
        "verdict": row.verdict,
    }
