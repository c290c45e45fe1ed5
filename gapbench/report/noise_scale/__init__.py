"""The analysis of noise scales as people see it."""

from __future__ import annotations

from gapbench.report.noise_scale.figures import noise_scale_drawings

__all__ = ["noise_scale_drawings"]
