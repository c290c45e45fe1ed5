"""How a run trains: the counted size of its model, and what follows from it for micro-batches, compiling, stacks and memory."""

from __future__ import annotations

from gapbench.sizing.decisions import micro_batch_size as micro_batch_size
from gapbench.sizing.decisions import program_key as program_key
from gapbench.sizing.decisions import stack_pays as stack_pays
from gapbench.sizing.decisions import worth_compiling as worth_compiling
from gapbench.sizing.sizes import count_models as count_models
from gapbench.sizing.sizes import count_with as count_with
from gapbench.sizing.sizes import size_of as size_of
