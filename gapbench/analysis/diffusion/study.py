"""The analysis of diffusion as a whole: a function of the two tidy tables and the plan's schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Panel, read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.diffusion.clocks import CLOCKS
from gapbench.analysis.diffusion.collapse import Collapse, collapse
from gapbench.analysis.diffusion.ensemble import Reader, Walks
from gapbench.analysis.diffusion.exponents import Exponent, Predictions, exponents_of, predictions_of
from gapbench.analysis.diffusion.orders import QUANTITIES, Logs
from gapbench.analysis.diffusion.twins import Twin, twins_of
from gapbench.analysis.diffusion.window import Window, common_window
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PanelStudy:
    """The walks of one panel: cells that may be compared."""

    panel: Panel
    walks: tuple[Walks, ...]
    left_out: Mapping[str, str]
    """Cells without walks, with the reason."""
    common: Window | None
    """None where no cell has walks."""
    exponents: Mapping[str, list[Exponent]]
    """By cell."""
    predictions: Mapping[str, Predictions | str]
    """By cell, over the common window; or the reason why there are none."""
    collapses: Mapping[str, list[Collapse]]
    """By cell that is not its own reference."""
    twins: tuple[Twin, ...]

    def reference_of(self, walks: Walks) -> Walks | None:
        """Returns the walks that a cell is compared with; None for the reference itself and where there is none."""
        reference = self.panel.reference_of(walks.cell)
        found = [other for other in self.walks if reference is not None and other.cell is reference and other is not walks]
        return found[0] if found else None


@dataclass(frozen=True, eq=False)
class Study:
    """Drift, spread, exponents, predictions and collapse of every cell; in sentences and as frames."""

    suite: str
    panels: tuple[PanelStudy, ...]

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """What can be concluded, by panel: every conclusion with its interval, or "not separated"."""
        from gapbench.analysis.diffusion.sentences import sentences_of

        return {panel.panel.title: sentences_of(panel) for panel in self.panels}

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The numbers as tidy frames: walks, exponents, predictions, collapse, twins."""
        from gapbench.analysis.diffusion.frames import frames_of

        return frames_of(self.panels)

    def __repr__(self) -> str:
        return f"Study({self.suite!r}: {sum(len(panel.walks) for panel in self.panels)} cells)"


def study(
    suite: str,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    specs: Mapping[str, RunSpec],
    *,
    first: int | None = None,
    last: int | None = None,
) -> Study:
    """Analyses how the weights of every cell walked.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id; cells whose schedule is not known are left out, and that is said.
        first: first update of every window; default: where clipping and warmup are over, at least 100 (less for short training).
        last: last update of the common window; it ends earlier where a rate falls or weight decay bends a walk.
    """
    reader = Reader(runs, Curves(curves), specs, first)
    return Study(suite, tuple(_panel(panel, reader, first, last) for panel in read_panels(runs)))


def _panel(panel: Panel, reader: Reader, first: int | None, last: int | None) -> PanelStudy:
    read = {cell.name: reader.read(cell) for cell in panel.cells}
    walks = tuple(found for found in read.values() if isinstance(found, Walks))
    left_out = {name: found for name, found in read.items() if isinstance(found, str)}
    if not walks:
        return PanelStudy(panel, (), left_out, None, {}, {}, {}, ())
    common = common_window({item.cell.name: item.window for item in walks}, first, last)
    bare = PanelStudy(panel, walks, left_out, common, {}, {}, {}, ())
    return PanelStudy(
        panel,
        walks,
        left_out,
        common,
        {item.cell.name: exponents_of(item, common) for item in walks},
        {item.cell.name: predictions_of(item, common) for item in walks},
        {item.cell.name: _collapses(item, reference, common) for item in walks if (reference := bare.reference_of(item)) is not None},
        tuple(twins_of(walks)),
    )


def _collapses(walks: Walks, reference: Walks, window: Window) -> list[Collapse]:
    if walks.decomposition is None or reference.decomposition is None:
        return []
    found = [
        collapse(clock, quantity, _series(walks, clock, quantity, window), _series(reference, clock, quantity, window))
        for clock in CLOCKS
        for quantity in QUANTITIES
    ]
    return [one for one in found if one is not None]


def _series(walks: Walks, clock: str, quantity: str, window: Window) -> tuple[Array, Logs]:
    """Returns a quantity against a clock: over the common window against updates, else over the cell's own clean one.

    Other clocks run faster or slower from cell to cell, so that equal updates are no equal times.
    """
    assert walks.decomposition is not None
    updates, logs = walks.decomposition.updates, walks.decomposition.logs[quantity]
    window = window if clock == CLOCKS[0] else Window(walks.window.full.first, walks.window.clean_last)
    inside = (updates >= window.first) & (updates <= window.last)
    return walks.clock.at(clock, updates[inside]), Logs(logs.replicates[:, inside], logs.sketch_error[inside])
