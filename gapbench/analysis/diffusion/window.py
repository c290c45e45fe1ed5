"""Over which updates a walk is compared: after clipping has stopped, before the learning rate falls, within weight decay's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gapbench.analysis.curves import Curve
from gapbench.analysis.diffusion.clocks import Clock

FIRST = 100
"""Where a window begins at the earliest, unless training is short or the caller says otherwise."""
SHORT = 10
"""A window that would end before SHORT * FIRST updates begins at the SHORT-th part of its end instead."""
CLIPPED = 0.05
"""Clipping binds where a larger share of updates than this is clipped."""
REACH = 4
"""A cell that is clipped (or warms up) beyond a REACH-th of its clean window does not shorten the window of the others."""
MEMORY = 0.1
"""Share of the weight-decay memory beyond which decay visibly bends a walk."""


@dataclass(frozen=True)
class Window:
    """Updates first .. last, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first:,} to {self.last:,}"


@dataclass(frozen=True)
class CellWindow:
    """The windows of one cell, and what limits them."""

    full: Window
    """Up to the first drop of the learning rate, whatever weight decay does."""
    clean_last: int
    """Last update within MEMORY of the weight-decay memory and before the drop."""
    clipped_until: int
    """Last update at which clipping bound; 0: it never did."""
    warmup_until: int
    memory: float
    """Share of the weight-decay memory that has passed at the end of the full window."""

    @property
    def clean(self) -> bool:
        """Whether clipping and warmup leave at least three quarters of the updates before decay or the drop."""
        return max(self.clipped_until, self.warmup_until) * REACH <= self.clean_last

    @property
    def decayed(self) -> bool:
        """Whether the full window reaches beyond what weight decay leaves alone."""
        return self.full.last > self.clean_last


def cell_window(clock: Clock, warmup: float, shares: Sequence[Curve], first: int | None = None) -> CellWindow:
    """Returns the windows of a cell.

    Args:
        clock: of its runs, which share their schedule.
        warmup: fraction of the updates.
        shares: of each run, the share of updates so far that were clipped.
        first: where to begin, clipping or not; default: FIRST (less where training is short), clipping and warmup over.
    """
    drop = clock.first_drop
    clean = min(drop, clock.within_memory(MEMORY))
    clipped = clipped_until(shares, drop)
    warm = int(np.ceil(warmup * len(clock.rates)))
    begin = max(min(FIRST, max(1, drop // SHORT)), clipped, warm) if first is None else first
    memory = float(clock.memory(np.array([drop]))[0])
    return CellWindow(Window(begin, drop), clean, clipped, warm, memory)


def common_window(cells: Mapping[str, CellWindow], first: int | None = None, last: int | None = None) -> Window:
    """Returns the window that all cells have: the only one over which they are compared.

    Cells that are clipped for too long are no part of it, unless all are; they are flagged.

    Args:
        cells: by name.
        first: given by the caller.
        last: the same; the window still ends where a rate falls or weight decay bends a walk.
    """
    end = min(cell.clean_last for cell in cells.values())
    end = end if last is None else min(end, last)
    floor = min(FIRST, max(1, end // SHORT))
    clean = [cell for cell in cells.values() if cell.clean] or [*cells.values()]
    begin = max(floor, *(max(cell.clipped_until, cell.warmup_until) for cell in clean)) if first is None else first
    return Window(begin, end)


def clipped_until(shares: Sequence[Curve], last: int) -> int:
    """Returns the last update up to which more than CLIPPED of the updates since the measurement before were clipped; 0 where none were.

    Args:
        shares: of all updates so far, as the probe `clipping` has it, one a run: the runs of a cell are counted together, for between two
            early measurements there are only a few updates.
        last: later measurements do not count.
    """
    if not shares:
        return 0
    updates = shares[0].updates
    for share in shares[1:]:
        updates = np.intersect1d(updates, share.updates)
    counts = np.mean([share.values[np.isin(share.updates, updates)] * updates for share in shares], axis=0)
    binding = (np.diff(counts, prepend=0.0) / np.diff(updates, prepend=0.0) > CLIPPED) & (updates <= last)
    return int(updates[binding].max(initial=0))
