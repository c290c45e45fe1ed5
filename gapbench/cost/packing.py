"""How many jobs of a kind a GPU trains at a time with gain: while the kernels of one are launched, those of another may run.

No GPU has shown yet what that gains. Jobs are processes of their own, whose kernels take turns on the device unless its owner runs CUDA's
multi-process service, so that it is the time of the host that they hide from each other.
"""

from __future__ import annotations

import math

from gapbench.cost.parts import guessed_launch_seconds, guessed_work_seconds
from gapbench.suite.runspec import RunSpec

MOST_AT_A_TIME = 4
"""Each holds a context and keeps a core busy with launching. What more of them would gain was not measured."""


def jobs_at_a_time(spec: RunSpec, *, replicas: int, device_kind: str) -> int:
    """Returns ceil(T_launch / T_work) of an update, from 1 to MOST_AT_A_TIME.

    T_launch grows with the layers alone; T_work with examples, weights and replicas, so that a large stack fills a GPU by itself. That
    many jobs beside one another have about as much work as each has launches; more could only wait for each other. Both come from the
    rough rates of `parts.py` and never from what was timed: how a plan is laid out must not change while it trains.

    Args:
        spec: of one of its runs.
        replicas: runs of the job.
        device_kind: "cpu" or "cuda"; on a CPU, whose slots are its cores, and for a model of unknown size the answer is 1.
    """
    work = guessed_work_seconds(spec, replicas=replicas, device_kind=device_kind)
    if device_kind == "cpu" or work is None:
        return 1
    return min(MOST_AT_A_TIME, max(1, math.ceil(guessed_launch_seconds(spec, device_kind) / work)))
