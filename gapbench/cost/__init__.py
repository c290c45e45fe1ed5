"""What a run will take: updates, examples, FLOPs, memory, seconds; and micro-batches; which runs may share a stack."""

from __future__ import annotations

from gapbench.cost import calibration
from gapbench.cost.estimate import Estimate, estimate, held_mib, memory_mib, training_flops_per_update
from gapbench.cost.learned import Basis
from gapbench.cost.micro_batch import micro_batch_size
from gapbench.cost.parts import Buckets, Parts
from gapbench.cost.place import Place
from gapbench.cost.program import program_key, stack_pays
from gapbench.cost.work import Work, work_of

__all__ = [
    "Basis",
    "Buckets",
    "Estimate",
    "Parts",
    "Place",
    "Work",
    "calibration",
    "estimate",
    "held_mib",
    "memory_mib",
    "micro_batch_size",
    "program_key",
    "stack_pays",
    "training_flops_per_update",
    "work_of",
]
