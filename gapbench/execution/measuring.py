"""A worker process that measures instead of training: the parts of a job, from a few updates and evaluations. It writes no files.

    python -m gapbench.execution.measuring

It speaks to its parent as a training worker does (`executor.py`); its answer to a job is what it found.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gapbench import cost
from gapbench.core.errors import GapbenchError
from gapbench.core.events import Event, Finished, Outcome
from gapbench.cost.parts import Buckets, Parts, buckets
from gapbench.execution.backend import TorchBackend, data_context, free_device_memory
from gapbench.execution.executor import Setup, decode_job, decode_setup, encode, read_messages
from gapbench.suite.batches import shortened
from gapbench.suite.moments import evaluation_updates, probe_updates
from gapbench.suite.runspec import RunSpec

LOOP_SECONDS = 4.0
"""Length of the timed loop of updates."""
FEWEST_UPDATES, MOST_UPDATES = 3, 400
COLD_UPDATES = 2
TRIAL_UPDATES = 10
EVALUATION_SECONDS = 1e-3
"""Of an evaluation, besides its examples; at most a fifth of it."""
FILES_SECONDS = 0.03
"""A job's folders, outcome and log, which a measurement does not write."""


def main() -> None:
    """Measures what the parent orders, until its stdin closes."""
    answers = os.dup(1)
    os.dup2(2, 1)  # stray prints of libraries must not reach the parent

    def say(message: Mapping[str, Any]) -> None:
        os.write(answers, encode(dict(message)))

    messages = read_messages(sys.stdin.buffer)
    first = next(messages, None)
    if first is None:
        return
    backend, setup = TorchBackend(), decode_setup(first)
    try:
        backend.prepare(setup)
    except GapbenchError as error:
        say({"kind": "refused", "error": str(error)})
        return
    say({"kind": "ready"})
    for message in messages:
        if message["kind"] != "job":
            return
        specs = [RunSpec.model_validate(spec) for spec in decode_job(message).specs]
        try:
            say({"kind": "measured", **measure(specs, setup)})
        except Exception as error:  # whatever it is, a run would end with it, too; here it only means that nothing is known
            say({"kind": "failed", "error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
        free_device_memory(setup.device)


def measure(specs: Sequence[RunSpec], setup: Setup) -> dict[str, Any]:
    """Returns the parts of a job, how long imports took that only the first job of a process pays, and the memory held at most.

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
    compiles = cost.worth_compiling(specs[0], replicas=len(specs), device_kind=kind)
    train = functools.partial(_train, pool=pool, splits=splits, device=setup.device, compiles=compiles)
    cold, stamps = train(_shortened(specs, COLD_UPDATES), wait=True)
    evaluations = []
    updates = _fitting(stamps)
    if updates > FEWEST_UPDATES:  # first updates are slow: a second look at how many fit
        trial, stamps = train(_shortened(specs, TRIAL_UPDATES), wait=True)
        evaluations.append(trial.evaluation)
        updates = _fitting(stamps)
    timed = _shortened(specs, updates)
    warm, stamps = train(timed, wait=False)
    warm = Buckets(warm.train, fmean([*evaluations, warm.evaluation]), warm.other)
    parts = fitted(timed[0], len(specs), warm, stamps if setup.device == "cpu" else ())
    expected = buckets(parts, cost.work_of(_shortened(specs, COLD_UPDATES)[0], replicas=len(specs)))
    parts = parts.model_copy(
        update={"program_seconds": max(0.0, cold.total - expected.total), "outside_seconds": loaded - imported + FILES_SECONDS}
    )
    peak = peak_memory_mib(torch.device("cpu")) if setup.device == "cpu" else None
    return {"parts": parts.model_dump(), "import_seconds": imported - began, "peak_mib": peak}


def fitted(spec: RunSpec, replicas: int, seconds: Buckets, stamps: Sequence[float]) -> Parts:
    """Returns the parts that a timed loop of updates shows.

    Args:
        spec: of the loop.
        replicas: that it trained.
        seconds: that it took, of all of them.
        stamps: the time before each of its updates; empty where the device works on by itself, so that they say nothing: then probes are
            not told from updates.
    """
    work = cost.work_of(spec, replicas=replicas)
    looked, evaluations = probe_updates(spec.updates), set(evaluation_updates(spec.batches, spec.evaluations))
    intervals = {done: after - before for done, (before, after) in enumerate(itertools.pairwise(stamps), start=1)}
    plain = [length for done, length in intervals.items() if done > 1 and done not in looked and done not in evaluations]
    observed = [length for done, length in intervals.items() if done > 1 and done in looked and done not in evaluations]
    begin = probe = 0.0
    update = seconds.train / work.updates
    if plain or observed:
        update = fmean(plain or observed)
        probe = max(0.0, fmean(observed) - update) if plain and observed else 0.0
        begin = max(0.0, intervals[1] - update - probe)
    evaluation = min(EVALUATION_SECONDS, 0.2 * seconds.evaluation / work.evaluations)
    shape = Parts(
        begin_seconds=begin,
        update_seconds=update,
        probe_seconds=probe,
        evaluation_seconds=evaluation,
        example_seconds=max(0.0, seconds.evaluation - work.evaluations * evaluation) / work.examples,
        setup_seconds=seconds.other,
        program_seconds=0.0,
        outside_seconds=0.0,
    )
    # The loop as a whole says how long its updates took; the intervals only how that is shared out.
    factor = seconds.train / buckets(shape, work).train
    return shape.model_copy(update={name: factor * getattr(shape, name) for name in ("begin_seconds", "update_seconds", "probe_seconds")})


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
) -> tuple[Buckets, Sequence[float]]:
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

    micro = cost.micro_batch_size(specs[0], device.partition(":")[0])
    engine.train(
        specs, pool, splits, device=device, emit=emit, stop=look, checkpoint_seconds=math.inf, micro_batch_size=micro, compiles=compiles
    )
    totals = [sum(float(summary[f"{name}_seconds"]) for summary in ended.values()) for name in ("train", "evaluation", "other")]
    return Buckets(*totals), stamps


if __name__ == "__main__":
    main()
