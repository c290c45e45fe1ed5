"""The training loop: from specs and data to events. Reads no files, prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch

from gapbench.catalog import task_of
from gapbench.core.events import Event, Finished, Outcome, Progressed, Snapshotted, Started, WeightsKept
from gapbench.engine.evaluation import Evaluation
from gapbench.engine.trainer import Trainer
from gapbench.probes import TrainState
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split


def peak_memory_mib(device: torch.device) -> float:
    """Returns the peak of the device's memory in MiB; on the CPU the process's resident memory, its peak where the system tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", None)  # Windows
    if peak is None:
        try:
            import resource
            import sys

            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        except ImportError:
            peak = memory.rss
    return float(peak) / 2**20


PROGRESS_SECONDS = 0.25


def train(
    specs: Sequence[RunSpec],
    pool: Pool,
    splits: Sequence[Split],
    *,
    device: str,
    emit: Callable[[Event], None],
    stop: Callable[[], Outcome | None],
    snapshots: Sequence[Mapping[str, Any]] | None = None,
    checkpoint_seconds: float = 60.0,
    micro_batch_size: int | None = None,
    compiles: bool = False,
    recomputes: bool = False,
) -> None:
    """Trains runs that share a program, as one stack where there are several, and reports through `emit`.

    Args:
        specs: the runs; equal but for seeds and hyperparameters.
        pool: all examples of their data set.
        splits: one a run.
        device: "cpu" or "cuda:N".
        emit: receives events; see `core.events`.
        stop: asked before every update; INTERRUPTED ends with a snapshot, TIMEOUT without.
        snapshots: to go on from, one a run, all of the same update.
        checkpoint_seconds: time between `Snapshotted` events.
        micro_batch_size: examples of one run that are computed at once, where that is exact; default: the whole batch. Runs that go
            on do so in the pieces in which they began, so that a stop changes no bit.
        compiles: whether to try to compile the network, which pays where many updates are still to come.
        recomputes: whether the blocks of the network pass forward again in the backward pass, to the same numbers in less memory.

    Raises:
        TrainingError: the runs cannot be trained as specified.
        torch.OutOfMemoryError: the device's memory does not hold an update.
    """
    if snapshots is not None:
        micro_batch_size = snapshots[0]["micro_batch_size"]
    how: dict[str, Any] = {"micro_batch_size": micro_batch_size, "compiles": compiles, "recomputes": recomputes}
    trainer = Trainer(specs, pool, splits, device=torch.device(device), emit=emit, **how)
    if snapshots is not None:
        trainer.restore(snapshots)
    trainer.prepare()
    clock = trainer.clock
    emit(Started(trainer.update, trainer.batches.updates, trainer.program.kind, clock.lap("other")))
    # A run that goes on has looked at its untrained weights already.
    _keep_weights(trainer, trainer.program.untrained() if snapshots is None else None, emit)
    clock.lap("evaluation")

    evaluation: Evaluation | None = None
    begun_at, checkpointed, reported = trainer.update, time.monotonic(), time.monotonic()
    while not trainer.complete:
        if (ending := stop()) is not None:
            clock.lap("train")
            _stopped(trainer, ending, emit)
            return

        state = trainer.step()  # one update of every replica; nothing here waits for the device

        if state is not None and trainer.update in trainer.probe_updates:
            trainer.probe(state, "update")
        if state is not None and trainer.update in trainer.evaluation_updates:
            with clock.beside("evaluation"):
                trainer.probe(state, "evaluation")
                evaluation = trainer.evaluate()
            if min(trainer.first_bad()) >= 0:
                break  # every replica has diverged
        if trainer.update in trainer.checkpoint_updates:
            with clock.beside("evaluation"):
                _keep_weights(trainer, state, emit)
        if time.monotonic() - checkpointed >= checkpoint_seconds and not trainer.complete:
            with clock.beside("other"):
                _checkpoint(trainer, emit)
            checkpointed = time.monotonic()
        if time.monotonic() - reported >= PROGRESS_SECONDS:
            reported = time.monotonic()
            emit(_progressed(trainer, evaluation, begun_at))
    _finish(trainer, evaluation, emit)


def _progressed(trainer: Trainer, evaluation: Evaluation | None, begun_at: int) -> Progressed:
    """Returns a sign of life of a job that began, or went on, at an update."""
    examples = (trainer.batches.examples(trainer.update) - trainer.batches.examples(begun_at)) * len(trainer.specs)
    column = task_of(trainer.spec.model.name).headline.column("test")
    unknown: list[float | None] = [None] * len(trainer.specs)
    headline = unknown if evaluation is None else evaluation.values.get(column, unknown)
    return Progressed(trainer.update, trainer.batches.updates, examples / max(trainer.clock.elapsed, 1e-9), tuple(headline))


def _finish(trainer: Trainer, evaluation: Evaluation | None, emit: Callable[[Event], None]) -> None:
    if evaluation is None:  # resumed after the last update: only the end is missing
        evaluation = trainer.evaluate()
    first_bad = trainer.first_bad()
    trainer.measurements.flush(first_bad)  # what was measured where the last weights were kept
    memory = peak_memory_mib(trainer.device)
    for replica, bad in enumerate(first_bad):
        summary = trainer.summary(replica, memory)
        if bad < 0:
            emit(Finished(replica, Outcome.OK, "", trainer.update, summary, evaluation.packed_test_correct(replica)))
        else:  # numbers of a diverged run are no results
            kept = {name: value for name, value in summary.items() if not name.endswith(("_accuracy", "_loss"))}
            reason = f"the training loss was not finite at update {bad} of {trainer.batches.updates}"
            emit(Finished(replica, Outcome.DIVERGED, reason, bad, kept))


def _stopped(trainer: Trainer, outcome: Outcome, emit: Callable[[Event], None]) -> None:
    if outcome is Outcome.INTERRUPTED:
        _checkpoint(trainer, emit)
    else:
        trainer.measurements.flush(trainer.first_bad())
    memory = peak_memory_mib(trainer.device)
    for replica in range(len(trainer.specs)):
        reason = f"stopped after {trainer.update} of {trainer.batches.updates} updates"
        summary = {} if outcome is Outcome.INTERRUPTED else trainer.timing(replica, memory)
        emit(Finished(replica, outcome, reason, trainer.update, summary))


def _checkpoint(trainer: Trainer, emit: Callable[[Event], None]) -> None:
    trainer.measurements.flush(trainer.first_bad())
    for replica in range(len(trainer.specs)):
        emit(Snapshotted(replica, trainer.update, trainer.snapshot(replica)))


def _keep_weights(trainer: Trainer, state: TrainState | None, emit: Callable[[Event], None]) -> None:
    if trainer.update not in trainer.checkpoint_updates:
        return
    if state is not None:
        trainer.probe(state, "checkpoint")
    if trainer.update not in trainer.keep_updates:
        return
    for replica in range(len(trainer.specs)):
        emit(WeightsKept(replica, trainer.update, trainer.keep_updates[trainer.update], trainer.network.state_dict(replica)))
