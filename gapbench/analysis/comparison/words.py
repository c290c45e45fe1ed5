"""A comparison in words: what it comes to, which values stand behind one label, how its numbers are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.analysis.comparison.cells import ABOVE, BELOW, IDENTICAL, LOSS_ABOVE, LOSS_BELOW, NOT_SEPARATED, SHARED_IDENTICAL

if TYPE_CHECKING:
    from gapbench.analysis.comparison.compare import Comparison

MANY = 6
"""More labels than this are counted instead of listed."""


def summary(comparison: Comparison) -> list[str]:
    """Returns the verdict on a comparison as sentences, then how to read its numbers."""
    cells = comparison.cells
    if not cells:
        return ["No cell is in both, so there is nothing to compare (cells on different data sets are never one)."]
    counts = Counter(cell.verdict if cell.verdict in _KINDS else "" for cell in cells)
    parts = [f"{number} {words}" for verdict, words in _KINDS.items() if (number := counts[verdict])]
    sentences = [f"Of {_count(len(cells), 'cell')} in both: {', '.join(parts)}."]
    identical = sum(cell.identical_runs for cell in cells)
    shared = sum(cell.shared_runs for cell in cells)
    if shared:
        sentences.append(
            f"{_count(shared, 'run')} of the same id {'is' if shared == 1 else 'are'} ok in both; {_equal(identical, shared)}."
        )
    return sentences + _how(comparison)


def values_by_change(comparison: Comparison) -> list[str]:
    """Returns the effective values in which cells of one label differ: once for each change, with the cells that it is in."""
    found: dict[tuple[str, str, str], list[str]] = {}
    matched = [cell for cell in comparison.cells if cell.values]
    for cell in matched:
        for key, (before, after) in cell.values.items():
            found.setdefault((key, before, after), []).append(cell.label)
    lines = []
    for (key, before, after), labels in found.items():
        where = "every cell" if len(labels) == len(comparison.cells) > 1 else listed(labels)
        lines.append(f"{key}: {before} -> {after} ({where})")
    return lines


def listed(names: Sequence[str]) -> str:
    """Returns names with commas; of many the first few and how many more."""
    return ", ".join(names[:MANY]) + (f" and {len(names) - MANY} more" if len(names) > MANY else "")


_KINDS = {
    IDENTICAL: "identical to the last digit",
    SHARED_IDENTICAL: "identical in the runs that both have",
    BELOW: "with test accuracy in B below A",
    ABOVE: "with test accuracy in B above A",
    LOSS_ABOVE: "with test loss in B above A",
    LOSS_BELOW: "with test loss in B below A",
    NOT_SEPARATED: "not separated",
    "": "without verdict",
}


def _equal(identical: int, shared: int) -> str:
    if identical == shared:
        return "its numbers are exactly equal" if shared == 1 else "all their numbers are exactly equal"
    return f"the numbers of {identical or 'none'} of them are exactly equal"


def _how(comparison: Comparison) -> list[str]:
    methods = {change.method for cell in comparison.cells for change in cell.changes.values() if change.low is not None}
    judged = {cell.headline.method for cell in comparison.cells if cell.headline and cell.headline.low is not None}
    out = ["Differences are B minus A: below zero, B's accuracy is lower. Losses are in nats."]
    if not methods:
        return [*out, "There is no interval from one seed, and so no verdict."]
    text = "Intervals are 95 %, pointwise, Student t over seeds"
    if "paired" in judged:
        text += "; paired by split where each seed draws its own and both sides have the same ones" + (
            ", Welch's else" if "welch" in judged else ""
        )
    elif "welch" in judged:
        text += ", differences Welch's"
    if "prediction" in judged:
        text += "; a published single run is held against where one new run of ours falls with probability 95 %, its rounding added"
    if comparison.comparisons:
        text += f"; verdicts hold at 5 % together, by Holm's procedure over {_count(comparison.comparisons, 'cell')}"
    return [*out, text + "."]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
