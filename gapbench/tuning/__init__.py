"""Which learning rates to try next, and what the tries say: a search that is fair to every batch size. It trains nothing itself.

Every decision follows from the outcomes of trials alone, so that whoever replays them comes to the same one.
"""

from __future__ import annotations

from gapbench.tuning.results import KEY, CellResult, Tuned, read_tuned
from gapbench.tuning.search import Point, Round, Rules, Search
from gapbench.tuning.suite_file import check_writable, tuned_name, write_tuned_suite
from gapbench.tuning.trials import Trial, Trials, specs_of

__all__ = [
    "KEY", "CellResult", "Point", "Round", "Rules", "Search", "Trial", "Trials", "Tuned", "check_writable", "read_tuned", "specs_of",
    "tuned_name", "write_tuned_suite",
]  # fmt: skip
