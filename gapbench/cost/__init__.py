"""What a run will take: updates, examples, FLOPs, memory, seconds; how many jobs a GPU."""

from __future__ import annotations

from gapbench.cost.calibration import Basis as Basis, Buckets as Buckets, Place as Place
from gapbench.cost.estimate import Estimate as Estimate, estimate as estimate, training_flops_per_update as training_flops_per_update
from gapbench.cost.guess import Work as Work, guess as guess, jobs_at_a_time as jobs_at_a_time, work_of as work_of
from gapbench.cost.memory import held_mib as held_mib, host_mib as host_mib, idle_mib as idle_mib, memory_mib as memory_mib
from gapbench.sizing.kinds import MOST_AT_A_TIME as MOST_AT_A_TIME
