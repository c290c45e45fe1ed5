"""The training loop: from specs and data to events. Reads no files, prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch

from gapbench.core.events import Event, Finished, Outcome, Progress, Snapshotted, Started, WeightsKept
from gapbench.engine.evaluation import Evaluation
from gapbench.engine.session import Session
from gapbench.probes import TrainState
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split


class Clock:
    """Adds the time since its last lap to a bucket (train, evaluation, other), after the device has finished what belongs to it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._last = time.perf_counter()
        self.elapsed = 0.0
        """Seconds of the last lap."""

    def lap(self, buckets: dict[str, float], name: str) -> None:
        """Books the time since the last lap on `name`. Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.elapsed = now - self._last
        self._last = now
        buckets[name] += self.elapsed

    @property
    def elapsed_since_start(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start


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

    Raises:
        TrainingError: the runs cannot be trained as specified.
        torch.OutOfMemoryError: the device's memory does not hold an update.
    """
    clock = Clock(torch.device(device))
    if snapshots is not None:
        micro_batch_size = snapshots[0]["micro_batch_size"]
    session = Session(specs, pool, splits, device=torch.device(device), emit=emit, micro_batch_size=micro_batch_size, compiles=compiles)
    if snapshots is not None:
        session.restore(snapshots)
    session.prepare()
    clock.lap(session.seconds, "other")
    emit(Started(session.update, session.batches.updates, session.program.kind, clock.elapsed))
    # A run that goes on has looked at its untrained weights already.
    _keep_weights(session, session.program.untrained() if snapshots is None else None, emit)
    clock.lap(session.seconds, "evaluation")

    evaluation: Evaluation | None = None
    accuracy: tuple[float | None, ...] = (None,) * len(specs)
    checkpointed = reported = time.monotonic()
    began_at = session.update
    while session.update < session.batches.updates:
        if (ending := stop()) is not None:
            clock.lap(session.seconds, "train")
            _stopped(session, ending, emit)
            return

        state = session.step()  # one update of every replica; nothing here waits for the device

        if state is not None and session.update in session.probe_updates:
            session.probe(state, "update")
        if state is not None and session.update in session.evaluation_updates:
            clock.lap(session.seconds, "train")
            session.probe(state, "evaluation")
            evaluation = session.evaluate()
            accuracy = tuple(evaluation.values.get("test_accuracy", accuracy))
            clock.lap(session.seconds, "evaluation")
            if min(session.first_bad()) >= 0:
                break  # every replica has diverged
        if session.update in session.checkpoint_updates:
            clock.lap(session.seconds, "train")
            _keep_weights(session, state, emit)
            clock.lap(session.seconds, "evaluation")
        now = time.monotonic()
        if now - checkpointed >= checkpoint_seconds and session.update < session.batches.updates:
            clock.lap(session.seconds, "train")
            _checkpoint(session, emit)
            clock.lap(session.seconds, "other")
            checkpointed = time.monotonic()
        if now - reported >= PROGRESS_SECONDS:
            seen = session.batches.examples(session.update) - session.batches.examples(began_at)
            rate = seen * len(specs) / max(clock.elapsed_since_start, 1e-9)
            emit(Progress(session.update, session.batches.updates, rate, accuracy))
            reported = now
    _finish(session, evaluation, emit)


def _finish(session: Session, evaluation: Evaluation | None, emit: Callable[[Event], None]) -> None:
    if evaluation is None:  # resumed after the last update: only the end is missing
        evaluation = session.evaluate()
    first_bad = session.first_bad()
    session.measurements.flush(first_bad)  # what was measured where the last weights were kept
    memory = peak_memory_mib(session.device)
    for replica, bad in enumerate(first_bad):
        summary = session.summary(replica, memory)
        if bad >= 0:
            for name in [name for name in summary if name.endswith(("_accuracy", "_loss"))]:
                del summary[name]  # numbers of a diverged run are no results
            emit(
                Finished(
                    replica,
                    Outcome.DIVERGED,
                    f"the training loss was not finite at update {bad} of {session.batches.updates}",
                    bad,
                    summary,
                )
            )
            continue
        bits = evaluation.packed_test_correct(replica)
        emit(Finished(replica, Outcome.OK, "", session.update, summary, bits))


def _stopped(session: Session, outcome: Outcome, emit: Callable[[Event], None]) -> None:
    if outcome is Outcome.INTERRUPTED:
        _checkpoint(session, emit)
    else:
        session.measurements.flush(session.first_bad())
    memory = peak_memory_mib(session.device)
    for replica in range(len(session.specs)):
        reason = f"stopped after {session.update} of {session.batches.updates} updates"
        summary = {} if outcome is Outcome.INTERRUPTED else session.timing(replica, memory)
        emit(Finished(replica, outcome, reason, session.update, summary))


def _checkpoint(session: Session, emit: Callable[[Event], None]) -> None:
    session.measurements.flush(session.first_bad())
    for replica in range(len(session.specs)):
        emit(Snapshotted(replica, session.update, session.snapshot(replica)))


def _keep_weights(session: Session, state: TrainState | None, emit: Callable[[Event], None]) -> None:
    if session.update not in session.checkpoint_updates:
        return
    if state is not None:
        session.probe(state, "checkpoint")
    if session.update not in session.keep_updates:
        return
    for replica in range(len(session.specs)):
        emit(WeightsKept(replica, session.update, session.keep_updates[session.update], session.network.state_dict(replica)))
