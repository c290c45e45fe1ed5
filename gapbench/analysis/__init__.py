"""What the results mean: intervals, differences, batch gaps, the arms table and its verdict. Functions of the two tidy tables alone."""

from __future__ import annotations

from gapbench.analysis.arms import ArmsTable, arms_table
from gapbench.analysis.rows import ArmRow, SideTable
from gapbench.analysis.side_tables import side_tables
from gapbench.analysis.stats import Difference, Estimate, t_interval

__all__ = ["ArmRow", "ArmsTable", "Difference", "Estimate", "SideTable", "arms_table", "side_tables", "t_interval"]
