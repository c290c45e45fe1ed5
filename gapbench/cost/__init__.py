"""What a run will take: updates, examples, FLOPs, memory, seconds; how many jobs a GPU."""

from __future__ import annotations

from gapbench.cost import calibration
from gapbench.cost.calibration import Basis, Buckets, Place
from gapbench.cost.estimate import Estimate, estimate, training_flops_per_update
from gapbench.cost.guess import Work, guess, jobs_at_a_time, work_of
from gapbench.cost.memory import held_mib, host_mib, idle_mib, memory_mib
from gapbench.sizing.kinds import MOST_AT_A_TIME

__all__ = [
    "MOST_AT_A_TIME",
    "Basis",
    "Buckets",
    "Estimate",
    "Place",
    "Work",
    "calibration",
    "estimate",
    "guess",
    "held_mib",
    "host_mib",
    "idle_mib",
    "jobs_at_a_time",
    "memory_mib",
    "training_flops_per_update",
    "work_of",
]
