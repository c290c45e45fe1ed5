"""How a run trains: the counted size of its model, and what follows from it for micro-batches, compiling, stacks and memory."""

from __future__ import annotations

from gapbench.sizing.decisions import (
    micro_batch_size as micro_batch_size,
    program_key as program_key,
    stack_pays as stack_pays,
    recomputes as recomputes,
    worth_compiling as worth_compiling,
)
from gapbench.sizing.sizes import count_models as count_models, count_with as count_with, size_of as size_of
