"""Which learning rates to try next, and what the tries say: a search that is fair to every batch size. It trains nothing itself.

Every decision follows from the outcomes of trials alone, so that whoever replays them comes to the same one.
"""

from __future__ import annotations

from gapbench.tuning.results import KEY, CellResult, Tuned, read_tuned
from gapbench.tuning.search import NOT_ELIGIBLE, Point, Range, Round, Rules, Score, Search, replay
from gapbench.tuning.suite_file import check_writable, tuned_name, tuned_suite, write_tuned_suite
from gapbench.tuning.trials import SUFFIX, Space, Trial, Trials, specs_of

__all__ = [
    "KEY",
    "NOT_ELIGIBLE",
    "SUFFIX",
    "CellResult",
    "Point",
    "Range",
    "Round",
    "Rules",
    "Score",
    "Search",
    "Space",
    "Trial",
    "Trials",
    "Tuned",
    "check_writable",
    "read_tuned",
    "replay",
    "specs_of",
    "tuned_name",
    "tuned_suite",
    "write_tuned_suite",
]
