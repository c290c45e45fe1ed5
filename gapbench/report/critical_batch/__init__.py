"""The analysis of critical batch sizes as people see it."""

from __future__ import annotations

from gapbench.report.critical_batch.figures import critical_batch_drawings

__all__ = ["critical_batch_drawings"]
