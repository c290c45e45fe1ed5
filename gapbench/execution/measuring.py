"""A worker process that measures instead of training: a few updates and evaluations of each program. It writes no files.

    python -m gapbench.execution.measuring

It speaks to its parent as a training worker does (`executor.py`); its answer to a job is what it found.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gapbench import cost
from gapbench.core.events import Event, Finished, Outcome
from gapbench.cost.guess import Guess
from gapbench.execution.backend import TorchBackend, data_context, free_device_memory, get_ready
from gapbench.execution.executor import JobOrder, Setup, keep_stdout, read_messages
from gapbench.sizing import micro_batch_size, worth_compiling
from gapbench.suite.batches import shortened
from gapbench.suite.runspec import RunSpec

LOOP_SECONDS = 4.0
"""Length of the timed loop of updates."""
FEWEST_UPDATES, MOST_UPDATES = 3, 400
COLD_UPDATES = 2
TRIAL_UPDATES = 10
LONGER = 4
"""A loop that many times as long as another says by their difference what an update takes."""
FILES_SECONDS = 0.03
"""A job's folders, outcome and log, which a measurement does not write."""


def main() -> None:
    """Measures what the parent orders, until its stdin closes."""
    say = keep_stdout()
    messages = read_messages(sys.stdin.buffer)
    setup = get_ready(TorchBackend(), messages, say)
    if setup is None:
        return
    for message in messages:
        if message["kind"] != "job":
            return
        specs = JobOrder.model_validate(message).specs
        try:
            say({"kind": "measured", **measure(specs, setup)})
        except Exception as error:  # whatever it is, a run would end with it, too; here it only means that nothing is known
            say({"kind": "failed", "error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
        free_device_memory(setup.device)


def measure(specs: Sequence[RunSpec], setup: Setup) -> dict[str, Any]:
    """Returns how far a guess at a job is wrong, how long imports took that only the first job of a process pays, and memory held at most.

    A first, cold job of two updates and one evaluation warms everything up and says how long the timed one may be.
    """
    began = time.perf_counter()
    import torch

    from gapbench.engine.loop import peak_memory_mib
    from gapbench.workloads import datasets

    imported = time.perf_counter()
    pool = datasets.load(specs[0].dataset, data_context(setup))
    splits = [datasets.split(pool, spec) for spec in specs]
    loaded = time.perf_counter()
    kind = setup.device.partition(":")[0]
    compiles = worth_compiling(specs[0], replicas=len(specs), device_kind=kind)
    train = functools.partial(_train, pool=pool, splits=splits, device=setup.device, compiles=compiles)
    cold, stamps = train(_shortened(specs, COLD_UPDATES), wait=True)
    loops: list[tuple[cost.Work, cost.Buckets]] = []
    updates = _fitting(stamps)
    if updates > FEWEST_UPDATES:  # first updates are slow: a second look at how many fit
        few = _shortened(specs, TRIAL_UPDATES)
        found, stamps = train(few, wait=True)
        loops.append((cost.work_of(few[0], replicas=len(specs)), found))
        updates = _fitting(stamps)
    timed = _shortened(specs, updates)
    loops.append((cost.work_of(timed[0], replicas=len(specs)), train(timed, wait=False)[0]))
    guessed = cost.guess(specs[0], replicas=len(specs), device_kind=kind)
    scales = scales_of(guessed, loops)
    first = cost.work_of(_shortened(specs, COLD_UPDATES)[0], replicas=len(specs))
    warm = scales["train"] * guessed.train(first) + scales["evaluation"] * guessed.evaluation(first) + scales["setup_seconds"]
    once = {"program_seconds": max(0.0, cold.total - warm), "outside_seconds": loaded - imported + FILES_SECONDS}
    peak = peak_memory_mib(torch.device("cpu")) if setup.device == "cpu" else None
    return {"scales": scales | once, "import_seconds": imported - began, "peak_mib": peak}


def scales_of(guessed: Guess, loops: Sequence[tuple[cost.Work, cost.Buckets]]) -> dict[str, float]:
    """Returns actual by guessed seconds of training and evaluation, and the seconds of setting up.

    Args:
        guessed: of the program.
        loops: work and seconds of one or two loops of updates, the longer last. What a job takes once in its bucket of training, such as
            drawing the order of the examples, is in both and so not in what the longer one took more.
    """
    evaluation = fmean(seconds.evaluation / guessed.evaluation(work) for work, seconds in loops)
    (few, short), (many, long) = loops[0], loops[-1]
    train, expected = long.train - short.train, guessed.train(many) - guessed.train(few)
    if many.updates < LONGER * few.updates or train <= 0.0:
        train, expected = long.train, guessed.train(many)
    return {"train": train / expected, "evaluation": evaluation, "setup_seconds": long.other}


def _fitting(stamps: Sequence[float]) -> int:
    """Returns how many updates as long as the last one between stamps make the timed loop."""
    return min(MOST_UPDATES, max(FEWEST_UPDATES, math.ceil(LOOP_SECONDS / max(stamps[-1] - stamps[-2], 1e-5))))


def _shortened(specs: Sequence[RunSpec], updates: int) -> list[RunSpec]:
    """Returns the runs with few updates and one evaluation, after the last: with recalibrated statistics, as most are."""
    change = {"evaluations": 1, "headline_evaluations": 1, "keep_weights": ()}
    return [_steady(spec.model_copy(update=change | shortened(spec, updates))) for spec in specs]


def _steady(spec: RunSpec) -> RunSpec:
    """Returns a run that makes exactly its planned updates: of an adaptive batch size one that is measured, but never decided on."""
    rule = spec.adaptive_batch
    return spec if rule is None else spec.model_copy(update={"adaptive_batch": rule.model_copy(update={"decisions": 1})})


def _train(
    specs: Sequence[RunSpec], *, pool: Any, splits: Sequence[Any], device: str, compiles: bool, wait: bool
) -> tuple[cost.Buckets, Sequence[float]]:
    """Trains as a run does and returns what its buckets hold, and the time before each update.

    Args:
        specs: the runs of the job.
        pool: all examples.
        splits: of the runs.
        device: where.
        compiles: whether the job compiles its network.
        wait: for the device before each look at the clock.
    """
    import torch

    from gapbench import engine

    stamps: list[float] = []
    ended: dict[int, Mapping[str, Any]] = {}

    def look() -> Outcome | None:
        if wait and device != "cpu":
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())
        return None

    def emit(event: Event) -> None:
        if isinstance(event, Finished):
            ended[event.replica] = event.summary

    micro = micro_batch_size(specs[0], device.partition(":")[0])
    engine.train(
        specs, pool, splits, device=device, emit=emit, stop=look, checkpoint_seconds=math.inf, micro_batch_size=micro, compiles=compiles
    )
    totals = [sum(float(summary[f"{name}_seconds"]) for summary in ended.values()) for name in ("train", "evaluation", "other")]
    return cost.Buckets(*totals), stamps


if __name__ == "__main__":
    main()
