"""What a run will take: updates, examples, FLOPs, memory, seconds; which runs may share a stack, and how many jobs a GPU."""

from __future__ import annotations

from gapbench.cost import calibration
from gapbench.cost.compiling import worth_compiling
from gapbench.cost.estimate import Estimate, estimate, held_mib, host_mib, idle_mib, memory_mib, training_flops_per_update
from gapbench.cost.learned import Basis
from gapbench.cost.micro_batch import micro_batch_size
from gapbench.cost.packing import MOST_AT_A_TIME, jobs_at_a_time
from gapbench.cost.parts import Buckets, Parts
from gapbench.cost.place import Place
from gapbench.cost.program import program_key, stack_pays
from gapbench.cost.work import Work, work_of

__all__ = [
    "MOST_AT_A_TIME",
    "Basis",
    "Buckets",
    "Estimate",
    "Parts",
    "Place",
    "Work",
    "calibration",
    "estimate",
    "held_mib",
    "host_mib",
    "idle_mib",
    "jobs_at_a_time",
    "memory_mib",
    "micro_batch_size",
    "program_key",
    "stack_pays",
    "training_flops_per_update",
    "work_of",
    "worth_compiling",
]
