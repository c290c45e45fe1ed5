"""What a run will take: updates, examples, FLOPs, memory, seconds; and which runs may train as one stack."""

from __future__ import annotations

from gapbench.cost import calibration
from gapbench.cost.estimate import Estimate, estimate
from gapbench.cost.program import program_key, stack_pays

__all__ = ["Estimate", "calibration", "estimate", "program_key", "stack_pays"]
