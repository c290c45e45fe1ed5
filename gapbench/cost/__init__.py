"""What a run will take: updates, examples, FLOPs, memory, seconds; how many jobs a GPU."""

from __future__ import annotations

from gapbench.cost.calibration import Basis as Basis
from gapbench.cost.calibration import Buckets as Buckets
from gapbench.cost.calibration import Place as Place
from gapbench.cost.estimate import Estimate as Estimate
from gapbench.cost.estimate import estimate as estimate
from gapbench.cost.estimate import training_flops_per_update as training_flops_per_update
from gapbench.cost.guess import Work as Work
from gapbench.cost.guess import guess as guess
from gapbench.cost.guess import jobs_at_a_time as jobs_at_a_time
from gapbench.cost.guess import work_of as work_of
from gapbench.cost.memory import held_mib as held_mib
from gapbench.cost.memory import host_mib as host_mib
from gapbench.cost.memory import idle_mib as idle_mib
from gapbench.cost.memory import memory_mib as memory_mib
from gapbench.sizing.kinds import MOST_AT_A_TIME as MOST_AT_A_TIME
