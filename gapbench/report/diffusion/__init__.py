"""The analysis of diffusion as people see it: figures, files, a page of sentences."""

from __future__ import annotations

from gapbench.report.diffusion.figures import diffusion_drawings
from gapbench.report.diffusion.page import diffusion_markdown, write_diffusion, write_pages

__all__ = ["diffusion_drawings", "diffusion_markdown", "write_diffusion", "write_pages"]
