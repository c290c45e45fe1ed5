"""What a run will take: updates, examples, FLOPs, memory, seconds; and which runs may train as one stack."""

from __future__ import annotations

from gapbench.cost.program import program_key, stack_pays

__all__ = ["program_key", "stack_pays"]
