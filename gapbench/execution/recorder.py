"""The worker's recorder: turns the engine's events into the files of the runs, and into messages for the parent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

from gapbench.core.errors import TrainingError
from gapbench.core.events import FINAL, Event, Finished, Measured, Outcome, Progressed, Snapshotted, Started, WeightsKept
from gapbench.execution.backend import Backend
from gapbench.store import CheckpointHeader, EventLog, RunDirectory, RunOutcome, commit, read_payload, write_checkpoint


class Recorder:
    """Files of the runs of one job, open while it trains. A context manager."""

    def __init__(
        self, runs: Sequence[RunDirectory], resumed: Resumed | None, backend: Backend, say: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._runs = tuple(runs)
        self._backend = backend
        self._say = say
        self._slices: dict[int, Snapshotted] = {}
        self._finished: dict[int, Finished] = {}
        self._began = time.monotonic()
        self._seconds_before = resumed.seconds if resumed else 0.0
        sizes = resumed.event_bytes if resumed else (0,) * len(runs)
        self._logs = [EventLog(run.events_path, size) for run, size in zip(runs, sizes, strict=True)]

    @property
    def seconds(self) -> float:
        """Time that the job has trained, over all starts."""
        return self._seconds_before + time.monotonic() - self._began

    def emit(self, event: Event) -> None:
        """Takes an event of the engine."""
        match event:
            case Measured():
                self._logs[event.replica].append(event)
            case Progressed():
                self._say({"kind": "progress", **asdict(event)})
            case Snapshotted():
                self._slices[event.replica] = event
                if len(self._slices) == len(self._runs):
                    self._write_checkpoint()
            case Started():
                self.emit(Progressed(event.update, event.updates, 0.0))
            case WeightsKept():
                self._runs[event.replica].write_weights(event.fraction, lambda file: self._backend.dump(dict(event.state_dict), file))
            case Finished():
                self._finished[event.replica] = event

    def conclude(self) -> Mapping[RunDirectory, Outcome]:
        """Writes the outcomes, all of them or, where the job was interrupted, none; returns them.

        Raises:
            TrainingError: the engine ended without saying how.
        """
        for log in self._logs:
            log.sync()
        if len(self._finished) != len(self._runs):
            raise TrainingError(f"the engine ended {len(self._finished)} of {len(self._runs)} runs and gave no reason; please report this")
        outcomes = {run: self._finished[replica].outcome for replica, run in enumerate(self._runs)}
        if all(outcome in FINAL for outcome in outcomes.values()):
            commit({run: self._outcome(self._finished[replica]) for replica, run in enumerate(self._runs)})
        return outcomes

    def _outcome(self, event: Finished) -> RunOutcome:
        return RunOutcome(event.outcome, event.reason, event.update, event.summary, event.test_correct, len(self._runs))

    def _write_checkpoint(self) -> None:
        """Writes the slices of all replicas at once. The events first: the checkpoint remembers how many of them it knows."""
        slices = [self._slices.pop(replica) for replica in range(len(self._runs))]
        header = CheckpointHeader(
            stack=tuple(run.run_id for run in self._runs),
            update=slices[0].update,
            event_bytes=tuple(log.sync() for log in self._logs),
            seconds=self.seconds,
        )
        snapshots = [dict(event.snapshot) for event in slices]
        write_checkpoint(self._runs[0].checkpoint_path, header, lambda file: self._backend.dump(snapshots, file))
        self._say({"kind": "checkpoint", "update": header.update})

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for log in self._logs:
            log.close()


class Resumed:
    """What a job goes on from: one snapshot a run, all of the same update."""

    def __init__(self, header: CheckpointHeader, snapshots: Sequence[Mapping[str, Any]], run_ids: Sequence[str]) -> None:
        position = {run_id: index for index, run_id in enumerate(header.stack)}
        self.update = header.update
        self.seconds = header.seconds * len(run_ids) / len(header.stack)
        self.snapshots = [snapshots[position[run_id]] for run_id in run_ids]
        self.event_bytes = tuple(header.event_bytes[position[run_id]] for run_id in run_ids)


def find_resumed(runs: Sequence[RunDirectory], candidates: Sequence[RunDirectory], backend: Backend) -> Resumed | None:
    """Returns what the runs of a job go on from, or None where they begin anew.

    A checkpoint that cannot be read, that lacks one of the runs, or whose events are gone is no checkpoint.

    Args:
        runs: of the job, in order.
        candidates: folders whose checkpoint may hold their slices.
        backend: reads the slices.
    """
    for candidate in candidates:
        header = candidate.checkpoint()
        if header is None or not {run.run_id for run in runs} <= set(header.stack):
            continue
        sizes = dict(zip(header.stack, header.event_bytes, strict=True))
        if any(_size(run) < sizes[run.run_id] for run in runs):
            continue
        try:
            snapshots = backend.load(read_payload(candidate.checkpoint_path))
        except Exception as error:
            candidate.append_log(f"the checkpoint cannot be read ({type(error).__name__}: {error}); training begins anew")
            continue
        if len(snapshots) == len(header.stack):
            return Resumed(header, snapshots, [run.run_id for run in runs])
    return None


def _size(run: RunDirectory) -> int:
    return run.events_path.stat().st_size if run.events_path.exists() else 0
