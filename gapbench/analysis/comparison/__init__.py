"""Two results side by side: what was trained otherwise, how every cell differs, and whether that is a regression."""

from __future__ import annotations

from gapbench.analysis.comparison.cells import MEASURES, ComparedCell, OutcomeChange
from gapbench.analysis.comparison.changes import Change
from gapbench.analysis.comparison.compare import Comparison, Results, compare_results
from gapbench.analysis.comparison.papers import PREFIX, PublishedSet, published_set
from gapbench.analysis.comparison.words import summary

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
