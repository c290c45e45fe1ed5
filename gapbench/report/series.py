"""Which cells share an axes, under which label and in which style: the arms of a panel, or its grid split by regime and ghost setting."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gapbench.analysis.cells import Cell, Panel
from gapbench.report.style import Style, arm_style, batch_style

MOST_ARMS = 8
"""Curves of more arms than this in one axes are no longer told apart."""

Setting = tuple[str, int | None, str, str, str]
"""Regime, ghost batch size, preset, optimizer, precision: what cells on one line over batch sizes have in common."""


@dataclass(frozen=True)
class Series:
    """One curve: a cell with its label and style."""

    cell: Cell
    label: str
    style: Style


@dataclass(frozen=True)
class Facet:
    """One axes."""

    title: str
    """Empty for the arms of a panel, whose title says it all."""
    series: tuple[Series, ...]
    reference: Cell | None = None
    """Drawn behind the others where it is none of them."""


def facets(panel: Panel) -> list[Facet]:
    """Returns the axes of a panel: one for its arms, one for each setting of its grid, with one curve per batch size there."""
    arms = [cell for cell in panel.cells if cell.arm]
    grid = [cell for cell in panel.cells if not cell.arm]
    out = _arm_facets(panel, arms)
    sizes = sorted({cell.batch_size for cell in grid})
    for setting in settings(grid):
        own = sorted((cell for cell in grid if setting_of(cell) == setting), key=lambda cell: cell.batch_size)
        unique = len({cell.batch_size for cell in own}) == len(own)
        series = tuple(
            Series(cell, f"batch size {cell.batch_size}" if unique else cell.name, batch_style(sizes.index(cell.batch_size), len(sizes)))
            for cell in own
        )
        reference = panel.reference_of(own[0])
        out.append(Facet(setting_text(setting, grid), series, None if reference in own else reference))
    return out


def _arm_facets(panel: Panel, arms: Sequence[Cell]) -> list[Facet]:
    """Returns one axes for the arms or, where they are too many to be told apart, several with the reference behind each."""
    series = arm_series(arms)
    if len(series) <= MOST_ARMS:
        return [Facet("", series)] if arms else []
    count = -(-len(series) // MOST_ARMS)
    bounds = [len(series) * part // count for part in range(count + 1)]
    reference = next((cell for cell in panel.cells if cell.reference), None)
    out = []
    for start, stop in itertools.pairwise(bounds):
        own = series[start:stop]
        behind = None if reference in [one.cell for one in own] else reference
        out.append(Facet(f"arms {start + 1} to {stop} of {len(series)}", own, behind))
    return out


def arm_series(arms: Sequence[Cell]) -> tuple[Series, ...]:
    """Returns the arms in table order; the reference arm comes in black."""
    ordered = sorted(arms, key=lambda cell: (not cell.reference, cell.order))
    styles = {id(cell): arm_style(position) for position, cell in enumerate(ordered)}
    several = len({cell.batch_size for cell in arms}) > 1
    return tuple(Series(cell, _with_batch(cell) if several else cell.name, styles[id(cell)]) for cell in arms)


def _with_batch(cell: Cell) -> str:
    """Returns a cell's name and batch size; in a grid of batch sizes the name says it already."""
    batch = f"B {cell.batch_size}"
    return cell.name if batch in cell.name.split(", ") else f"{cell.name} ({batch})"


def setting_of(cell: Cell) -> Setting:
    """Returns what a cell of a grid has in common with the same line at another batch size."""
    return cell.regime, cell.ghost_batch_size, cell.preset, cell.optimizer, cell.precision


def settings(grid: Sequence[Cell]) -> list[Setting]:
    """Returns the settings of a grid in table order, ghost off before ghost on."""
    found = list(dict.fromkeys(setting_of(cell) for cell in grid))
    regimes = list(dict.fromkeys(setting[0] for setting in found))
    return sorted(found, key=lambda setting: (setting[2:], setting[1] or 0, regimes.index(setting[0])))


def setting_text(setting: Setting, grid: Sequence[Cell]) -> str:
    """Names a setting by its regime and ghost size, and by whatever else varies in the grid."""
    all_settings = settings(grid)
    parts = [setting[0]]
    if any(ghost is not None for _, ghost, *_ in all_settings):
        parts.append(f"ghost {setting[1] or 'off'}")
    return ", ".join(parts + [str(setting[position]) for position in (2, 3, 4) if len({other[position] for other in all_settings}) > 1])
