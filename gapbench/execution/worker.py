"""A worker process: trains one job after another as its parent orders, and lets nothing get lost when either of them ends.

    python -m gapbench.execution.worker

Speaks JSON lines over stdin and stdout (`executor.py`). It stops with a checkpoint when it is told to, on SIGTERM, and when its
stdin closes, as it does when the parent is killed. Ctrl-C is the parent's to handle.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gapbench.catalog.plugins import plugin_files
from gapbench.core.errors import GapbenchError, LockedError, StoreError, TrainingError, place_of
from gapbench.core.events import FINAL, Event, Finished, Measured, Outcome, Progressed, Snapshotted, Started, WeightsKept
from gapbench.execution.backend import Backend, TorchBackend
from gapbench.execution.executor import STOP_SIGNALS, JobOrder, Message, Setup, keep_stdout, read_messages
from gapbench.store import (
    CheckpointHeader,
    EventLog,
    ResultsDirectory,
    RunDirectory,
    RunOutcome,
    commit,
    describe_session,
    read_payload,
    stack_line,
    start_line,
    write_checkpoint,
)
from gapbench.store.files import DISK_FULL, refusing, unwritten
from gapbench.suite.runspec import RunSpec, used_components


def main() -> None:
    """Runs a worker with the real engine."""
    serve(TorchBackend())


def serve(backend: Backend) -> None:
    """Serves the parent until it says stop or is gone."""
    write = keep_stdout()
    faulthandler.enable()
    orders: queue.SimpleQueue[JobOrder | None] = queue.SimpleQueue()
    stop = threading.Event()

    def ask_to_stop(*_: object) -> None:
        stop.set()
        orders.put(None)

    def say(message: Message) -> None:
        try:
            write(message)
        except OSError:  # the parent is gone: finish with a checkpoint, as `listen` will ask for
            stop.set()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in STOP_SIGNALS:
        signal.signal(number, ask_to_stop)
    # Unbuffered: a thread that waits in a buffered reader would block the interpreter's end.
    messages = read_messages(_lines(0))
    first = next(messages, None)
    if first is None:
        return
    setup = Setup.model_validate(first)
    try:
        backend.prepare(setup)
    except GapbenchError as error:
        say({"kind": "refused", "error": str(error)})
        return
    say({"kind": "ready"})

    def listen() -> None:
        for message in messages:
            if message["kind"] == "stop":
                break
            orders.put(JobOrder.model_validate(message))
        ask_to_stop()

    threading.Thread(target=listen, daemon=True).start()
    worker = _Worker(backend, setup, say, stop)
    while not stop.is_set() and (order := orders.get()) is not None:
        if not worker.train(order):
            return


class _Worker:
    def __init__(self, backend: Backend, setup: Setup, say: Callable[[Message], None], stop: threading.Event) -> None:
        self._backend = backend
        self._setup = setup
        self._say = say
        self._stop = stop
        self._results = ResultsDirectory(setup.results, setup.suite)

    def train(self, order: JobOrder) -> bool:
        """Trains a job and says how its runs ended; returns whether this process is fit for another one."""
        runs = [self._results.run(run_id) for run_id in order.run_ids]
        try:
            with ExitStack() as locks:
                for run in runs:
                    locks.enter_context(run.locked(self._setup.lock_seconds))
                # Where the worker of an earlier start was still busy, it may have ended these runs by now.
                ended = {run: outcome.outcome for run in runs if (outcome := run.outcome()) is not None}
                if len(ended) == len(runs):
                    self._say_ended(ended, fit=True)
                    return True
                self._say({"kind": "taken"})
                left = [(run, spec) for run, spec in zip(runs, order.specs, strict=True) if run not in ended]
                outcomes, fit = self._train_locked([run for run, _ in left], [spec for _, spec in left], order)
                fit = fit and not self._stop.is_set()
                self._say_ended({**ended, **outcomes}, fit=fit)
                return fit
        except LockedError as error:
            self._say({"kind": "locked", "error": str(error)})
            return True
        except StoreError as error:
            self._say({"kind": "refused", "error": str(error)})
            return False

    def _train_locked(self, runs: list[RunDirectory], specs: list[RunSpec], order: JobOrder) -> tuple[Mapping[RunDirectory, Outcome], bool]:
        for run, spec in zip(runs, specs, strict=True):
            run.begin(spec)
        candidates = [self._results.run(order.checkpoint), *runs] if order.checkpoint else runs
        with _output_into(runs[0].log_path):
            resumed = find_resumed(runs, candidates, self._backend)
            self._note_session(runs, specs, resumed, order.slots)
            try:
                with closing(Recorder(runs, resumed, self._backend, self._say)) as recorder:
                    self._backend.train(
                        specs,
                        emit=recorder.emit,
                        stop=lambda: self._reason_to_stop(specs, recorder),
                        snapshots=resumed.snapshots if resumed else None,
                        checkpoint_seconds=self._setup.checkpoint_seconds,
                        compiles=order.compiles,
                    )
                    return recorder.conclude(), True
            except StoreError:
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in DISK_FULL:  # of the log, which takes what is printed, or of a cache
                    raise unwritten(runs[0].path, error) from error
                return self._failed(runs, error), False

    def _reason_to_stop(self, specs: list[RunSpec], recorder: Recorder) -> Outcome | None:
        """Returns the outcome that the job ends with now, or None where it goes on."""
        if self._stop.is_set():
            return Outcome.INTERRUPTED
        limit = specs[0].time_limit_seconds
        # A stack's runs each get their share of its time.
        if limit is not None and recorder.seconds / len(specs) > limit:
            return Outcome.TIMEOUT
        return None

    def _failed(self, runs: list[RunDirectory], error: Exception) -> Mapping[RunDirectory, Outcome]:
        """Writes what went wrong into the logs, and the outcome; a stack without enough memory gets none, its runs train one by one."""
        words = "".join(traceback.format_exception(error))
        for run in runs:
            run.append_log(words)
        summary = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500] + place_of(error)
        if not self._backend.lacks_memory(error):
            outcome = RunOutcome(Outcome.CRASHED, str(error) if isinstance(error, GapbenchError) else summary, replicas=len(runs))
        elif len(runs) > 1:
            return dict.fromkeys(runs, Outcome.OUT_OF_MEMORY)
        else:
            outcome = RunOutcome(Outcome.OUT_OF_MEMORY, f"the memory of {self._setup.device_label} did not suffice ({summary})")
        commit(dict.fromkeys(runs, outcome))
        return dict.fromkeys(runs, outcome.outcome)

    def _note_session(self, runs: list[RunDirectory], specs: list[RunSpec], resumed: Resumed | None, slots: int) -> None:
        update = resumed.update if resumed else 0
        stack = [run.run_id for run in runs]
        for run, spec in zip(runs, specs, strict=True):
            session = describe_session(
                self._setup.machine,
                device=self._setup.device_label,
                device_name=self._setup.device_name,
                threads=self._setup.threads,
                slots=slots,
                precision=spec.precision,
                plugins=plugin_files(used_components([spec])) or None,
                stack=stack,
                resumed_at_update=update,
            )
            run.add_session(session)
            run.append_log(start_line(session["started_at"], update, session["device"]))
            if run is not runs[0]:
                run.append_log(stack_line(runs[0].run_id))

    def _say_ended(self, outcomes: Mapping[RunDirectory, Outcome], *, fit: bool) -> None:
        ended = {run.run_id: outcome.value for run, outcome in outcomes.items()}
        written = [run.run_id for run in outcomes if run.outcome() is not None]
        self._say({"kind": "ended", "outcomes": ended, "written": written, "fit": fit})


# The recorder turns the engine's events into the files of the runs, and into messages for the parent.


class Recorder:
    """Files of the runs of one job, open while it trains."""

    def __init__(self, runs: Sequence[RunDirectory], resumed: Resumed | None, backend: Backend, say: Callable[[Message], None]) -> None:
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
        ends = {run: self._finished[replica] for replica, run in enumerate(self._runs)}
        if all(end.outcome in FINAL for end in ends.values()):
            commit({run: self._outcome(end) for run, end in ends.items()})
        return {run: end.outcome for run, end in ends.items()}

    def _outcome(self, end: Finished) -> RunOutcome:
        return RunOutcome(end.outcome, end.reason, end.update, end.summary, end.test_correct, len(self._runs))

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

    def close(self) -> None:
        """Closes the files."""
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


def _lines(descriptor: int) -> Iterator[bytes]:
    """Yields the lines of a file descriptor, without a lock that outlives the interpreter."""
    held = b""
    while block := os.read(descriptor, 1 << 16):
        *lines, held = (held + block).split(b"\n")
        for line in lines:
            yield line + b"\n"


@contextmanager
def _output_into(path: Path) -> Iterator[None]:
    """Sends everything that this process prints, Python or not, to the end of a file."""
    _flush()
    before = os.dup(1), os.dup(2)
    with refusing(path):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        with suppress(OSError):  # prints for which the disk has no room; whatever else it has none for is refused where it is written
            _flush()
        os.dup2(before[0], 1)
        os.dup2(before[1], 2)
        os.close(before[0])
        os.close(before[1])


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    main()
