"""What a run will take: updates, examples, FLOPs, memory, seconds; and micro-batches; which runs may share a stack."""

from __future__ import annotations

from gapbench.cost import calibration
from gapbench.cost.estimate import Estimate, estimate
from gapbench.cost.micro_batch import micro_batch_size
from gapbench.cost.program import program_key, stack_pays

__all__ = ["Estimate", "calibration", "estimate", "micro_batch_size", "program_key", "stack_pays"]
