"""Critical batch sizes: how many updates a target takes at each batch size, and beyond which size more examples buy few fewer updates.

McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162.
"""

from __future__ import annotations

from gapbench.analysis.critical_batch.study import CurveStudy, study, study_series
from gapbench.analysis.critical_batch.targets import Passage, Target, parse_target, read_series

__all__ = ["CurveStudy", "Passage", "Target", "parse_target", "read_series", "study", "study_series"]
