"""The training: device-resident feed, step program, loop, snapshots. Knows no files and no console: reports through one `emit(event)`."""

from __future__ import annotations

from gapbench.engine.loop import train

__all__ = ["train"]
