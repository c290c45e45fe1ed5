"""What the results mean: intervals, differences, batch gaps, the arms table and its verdict. Functions of the two tidy tables alone."""

from __future__ import annotations

from gapbench.analysis.arms import ArmsTable, arms_table
from gapbench.analysis.curves import MatchedLoss, matched_loss_gap
from gapbench.analysis.examples import ExampleInterval, unpack_correct
from gapbench.analysis.factorial import Effect, Factor, Factorial, factorials
from gapbench.analysis.rows import ArmRow, SideTable
from gapbench.analysis.side_tables import side_tables
from gapbench.analysis.stats import Difference, Estimate, Power, Ratio, difference, holm, prediction_interval, share_closed, t_interval

__all__ = [
    "ArmRow",
    "ArmsTable",
    "Difference",
    "Effect",
    "Estimate",
    "ExampleInterval",
    "Factor",
    "Factorial",
    "MatchedLoss",
    "Power",
    "Ratio",
    "SideTable",
    "arms_table",
    "difference",
    "factorials",
    "holm",
    "matched_loss_gap",
    "prediction_interval",
    "share_closed",
    "side_tables",
    "t_interval",
    "unpack_correct",
]
