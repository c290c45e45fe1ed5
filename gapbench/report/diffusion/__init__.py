"""The analysis of diffusion as people see it."""

from __future__ import annotations

from gapbench.report.diffusion.figures import diffusion_drawings

__all__ = ["diffusion_drawings"]
