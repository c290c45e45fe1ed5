"""How fast the engine is, against plain loops that people would write instead, side by side in one run."""

from __future__ import annotations

from gapbench.bench.cases import CASES, Case
from gapbench.bench.compare import BenchReport, BenchRow, compare

__all__ = ["CASES", "BenchReport", "BenchRow", "Case", "compare"]
