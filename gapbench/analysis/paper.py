"""The paper's number beside a cell, where the cell is the paper's: same recipe, arm, whole data set."""

from __future__ import annotations

from dataclasses import dataclass

from gapbench.analysis.cells import Cell, Panel


@dataclass(frozen=True)
class Published:
    """A published single run."""

    test_accuracy: float
    """A fraction."""
    source: str
    """Paper, table and how the number was obtained."""


def published_value(panel: Panel, cell: Cell) -> Published | None:
    """Returns the published accuracy of a cell's arm, or None."""
    return None
