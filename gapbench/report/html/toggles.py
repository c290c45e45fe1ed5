"""What a reader can hide in the figures: arms, batch sizes, and settings of a grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gapbench.analysis.cells import Cell, Panel
from gapbench.report.series import setting_of, setting_text, settings


@dataclass(frozen=True)
class Toggle:
    """One checkbox."""

    key: str
    """Class of what it hides, and the end of its own id."""
    group: str
    label: str
    cells: frozenset[str]
    """Names."""


def toggles_of(panels: Sequence[Panel]) -> list[Toggle]:
    """Returns the checkboxes, by group; a group of one would hide everything and is left out."""
    cells = [cell for panel in panels for cell in panel.cells]
    found: dict[str, dict[str, set[str]]] = {"Batch size": {}, "Arm": {}, "Setting": {}}
    for cell in sorted(cells, key=lambda cell: cell.batch_size):
        found["Batch size"].setdefault(str(cell.batch_size), set()).add(cell.name)
    for cell in cells:
        if cell.arm:
            found["Arm"].setdefault(cell.name, set()).add(cell.name)
    for panel in panels:
        grid = [cell for cell in panel.cells if not cell.arm]
        for setting in settings(grid):
            names = _named(grid, setting)
            found["Setting"].setdefault(setting_text(setting, grid), set()).update(names)
    chosen = [(group, label, names) for group, entries in found.items() if len(entries) > 1 for label, names in entries.items()]
    return [Toggle(f"t{number}", group, label, frozenset(names)) for number, (group, label, names) in enumerate(chosen)]


def classes_of(cells: Iterable[str], toggles: Iterable[Toggle], *, every: bool) -> str:
    """Returns the classes by which toggles hide something drawn.

    Args:
        cells: names of what it stands for.
        toggles: all of them.
        every: hidden only with all its cells, as befits an entry of a legend; else with any.
    """
    names = frozenset(cells)
    return " ".join(toggle.key for toggle in toggles if (names <= toggle.cells if every else names & toggle.cells))


def _named(grid: Sequence[Cell], setting: object) -> set[str]:
    return {cell.name for cell in grid if setting_of(cell) == setting}
