"""Two results side by side: what was trained otherwise, how every cell differs, and whether that is a regression."""

from __future__ import annotations

from gapbench.analysis.comparison.cells import MEASURES, Change, ComparedCell, OutcomeChange
from gapbench.analysis.comparison.compare import PREFIX, Comparison, PublishedSet, Results, compare_results, published_set, summary

__all__ = [
    "MEASURES",
    "PREFIX",
    "Change",
    "ComparedCell",
    "Comparison",
    "OutcomeChange",
    "PublishedSet",
    "Results",
    "compare_results",
    "published_set",
    "summary",
]
