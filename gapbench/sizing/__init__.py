"""How a run trains: the counted size of its model, and what follows from it for micro-batches, compiling, stacks and memory."""

from __future__ import annotations

from gapbench.sizing.decisions import micro_batch_size, program_key, stack_pays, worth_compiling
from gapbench.sizing.sizes import Size, count_models, count_with, model_size, size_of

__all__ = [
    "Size",
    "count_models",
    "count_with",
    "micro_batch_size",
    "model_size",
    "program_key",
    "size_of",
    "stack_pays",
    "worth_compiling",
]
