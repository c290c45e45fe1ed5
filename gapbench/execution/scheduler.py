"""The parent: hands jobs to workers, sees to it that they fit in memory, and deals with whatever happens to them."""

from __future__ import annotations

import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gapbench.catalog import task_of
from gapbench.catalog.entries import Metric
from gapbench.core.errors import GapbenchError
from gapbench.core.events import Outcome
from gapbench.execution.executor import STOP, STOP_SIGNALS, Executor, Gone, Message, Setup, job_message
from gapbench.execution.jobs import Demand, Job, Pending, Predictions, Slot, in_order, place_of
from gapbench.execution.notices import Begun, Ended, JobEnded, JobProgressed, JobStarted, Observer, Said, Stopping
from gapbench.execution.rules import Room, at_a_time, expected_jobs, next_job
from gapbench.store import FAILED, ResultsDirectory, RunOutcome, commit, read_failure, recover

STARTS_AGAIN = 3
"""How often in a row a worker that ends before it is ready is started again, before that is an error. Ours."""

TRIES_FOR_LOCK = 3
"""How often a job waits for the lock of a run that another process holds, before that is an error. Ours."""

POLL_SECONDS = 0.5
"""How often memory is looked at again while something waits for it; signals are noticed at once or in this time."""


@dataclass
class Execution:
    """How training ended."""

    interrupted: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of the runs that trained now; interrupted ones included."""


@dataclass
class _Worker:
    """What the scheduler knows of the worker in a slot."""

    slot: Slot
    ready: bool = False
    """It has started and waits for jobs."""
    leaving: bool = False
    """It has said that it takes no other job: after an error its memory or its device may be in no fit state."""
    item: Pending | None = None
    """What it trains, or was given to train."""
    taken: bool = False
    """It has begun with that."""
    killed: bool = False
    """We have killed it ourselves."""

    @property
    def job(self) -> Job | None:
        """The job that it trains, or was given to train."""
        return self.item.job if self.item else None


def _metric_of(job: Job) -> Metric:
    """Returns what runs of a job are compared by."""
    return task_of(job.specs[0].model.name).headline


@dataclass
class Scheduler:
    """Trains pending jobs in slots. Use `execute`."""

    results: ResultsDirectory
    """Where runs are kept."""
    slots: tuple[Slot, ...]
    """Of the layout."""
    setup_of: Callable[[Slot], Setup]
    """What a slot's worker needs."""
    executor: Executor
    """Runs the workers; it is closed in the end."""
    titles: Callable[[Job], str]
    """Names a job for people."""
    observe: Observer
    """Receives notices."""
    fail_fast: bool
    """Stops at the first run that is not ok."""
    command: str
    """What a user calls to go on."""

    def __post_init__(self) -> None:
        self.execution = Execution()
        self._predictions = Predictions(place_of(self.slots))
        self._workers: dict[int, _Worker] = {}
        self._waiting: deque[Pending] = deque()
        self._failed_starts = 0
        self._locked_out: Counter[tuple[str, ...]] = Counter()
        self._more: Iterator[Sequence[Pending]] | None = None
        self._stopping = False
        self._killing = False
        self._error: GapbenchError | None = None

    def execute(
        self, pending: Sequence[Pending], *, done: Sequence[Job] = (), failed: int = 0, more: Iterator[Sequence[Pending]] | None = None
    ) -> Execution:
        """Trains the pending jobs and returns how that ended.

        Args:
            pending: what is left to do.
            done: what is selected and has been done before.
            failed: how many runs of that are not ok.
            more: yields jobs that train next, each time that all others have ended.

        Raises:
            GapbenchError: workers cannot start, or the results directory cannot be written to; outcomes so far are kept.
        """
        self._waiting, self._more = deque(in_order(pending, self._predictions)), more
        with Interrupt() as interrupt:
            try:
                self.observe(self._begun(done, failed))
                self._loop(interrupt)
            finally:
                self.executor.close()  # workers are left only after an error of our own
            if self._error is None:
                self.observe(Ended(self.execution.interrupted))
        if self._error is not None:
            raise self._error
        return self.execution

    def _loop(self, interrupt: Interrupt) -> None:
        while self._waiting or self._workers or self._more is not None:
            if interrupt.count and not self._stopping:
                self.execution.interrupted = True
                self.observe(Stopping(at_once=False))
                self._stop()
            if interrupt.count > 1 and not self._killing:
                self._killing = True
                self.observe(Stopping(at_once=True))
                for worker in self._workers.values():
                    self._kill(worker)
            if not self._stopping:
                self._ask_for_more()
                self._dispatch()
            received = self.executor.receive(POLL_SECONDS)
            if received is None:
                continue
            number, message = received
            if isinstance(message, Gone):
                self._worker_ended(self._workers.pop(number), message)
            else:
                self._worker_said(self._workers[number], message)

    def _ask_for_more(self) -> None:
        if self._more is not None and not self._waiting and not self._running():
            found = next(self._more, None)
            self._waiting.extend(in_order(found or (), self._predictions))
            if found is None:
                self._more = None

    def _dispatch(self) -> None:
        """Gives work to every free slot; lets idle workers go where none is left, so that they hold no memory."""
        idle = [worker for worker in self._workers.values() if worker.item is None and not worker.leaving]
        if self._waiting and (idle or len(self._workers) < len(self.slots)):
            room = self._room()
            while (found := next_job(map(self._demand, self._waiting), self._running(), room)) is not None:
                item = self._waiting[found.position]
                del self._waiting[found.position]
                if found.fits:
                    self._give(item, found.slot)
                else:
                    self._too_large(item, found.slot)
        if not self._waiting and self._more is None:
            for worker in idle:
                if worker.item is None:
                    self.executor.dismiss(worker.slot.number)

    def _room(self) -> Room:
        closed = {number for number, worker in self._workers.items() if worker.leaving}
        if self.slots[0].device.kind != "cpu":  # a GPU says itself when its memory does not suffice; a kernel kills
            return Room(self.slots, closed)
        held = {number: self.executor.held_mib(number) for number in self._workers}
        return Room(self.slots, closed, self.executor.free_mib(), held)

    def _running(self) -> dict[int, Demand]:
        return {number: self._demand(worker.item) for number, worker in self._workers.items() if worker.item is not None}

    def _demand(self, item: Pending) -> Demand:
        return self._predictions.demand(item.job)

    def _give(self, item: Pending, slot: Slot) -> None:
        worker = self._workers.get(slot.number)
        if worker is None:
            worker = self._workers[slot.number] = _Worker(slot)
            self.executor.start(slot, self.setup_of(slot))
        worker.item, worker.taken = item, False
        self.executor.send(slot.number, job_message(item, slots=at_a_time(self._demand(item), slot, self.slots)))
        job = item.job
        self.observe(JobStarted(slot.number, self.titles(job), job.run_ids, job.specs[0].updates, item.update, _metric_of(job)))

    def _too_large(self, item: Pending, slot: Slot) -> None:
        """A stack that can never fit trains run by run; a run that can never fit is an outcome, said in words."""
        if item.job.replicas > 1:
            self._waiting.extend(item.singles())
            return
        reason = (
            f"needs about {self._demand(item).memory_mib:,.0f} MiB, {self.executor.free_mib():,.0f} MiB are free: not started, "
            "for the kernel would kill it; end other programs or use a machine with more memory, then --retry"
        )
        run = self.results.run(item.job.run_ids[0])
        commit({run: RunOutcome(Outcome.OUT_OF_MEMORY, reason)})
        self._report_end(slot, item.job, {run.run_id: Outcome.OUT_OF_MEMORY}, reason)

    def _worker_said(self, worker: _Worker, message: Message) -> None:
        match message:
            case {"kind": "ready"}:
                worker.ready = True
                self._failed_starts = 0
            case {"kind": "taken"}:
                worker.taken = True
            case {"kind": "refused", "error": str(text)}:
                self._fail(GapbenchError(text), worker)
            case {"kind": "locked", "error": str(text)}:
                self._put_back(worker, text)
            case {"kind": "progress", "update": int(update), "updates": int(updates), "examples_per_second": rate, "headline": list(seen)}:
                headline = tuple(None if value is None else float(value) for value in seen)
                self.observe(JobProgressed(worker.slot.number, update, updates, float(rate), headline))
            case {"kind": "ended", "outcomes": dict(outcomes), "written": list(written), "fit": bool(fit)}:
                worker.leaving = not fit
                self._job_ended(worker, {run_id: Outcome(value) for run_id, value in outcomes.items()}, set(written))
            case _:
                pass  # checkpoint: nothing to do here

    def _job_ended(self, worker: _Worker, outcomes: dict[str, Outcome], written: set[str]) -> None:
        job, worker.item = worker.job, None
        if job is None:
            return
        if Outcome.OUT_OF_MEMORY in outcomes.values() and not written:
            self.observe(Said(f"{self.titles(job)}: memory did not suffice for {job.replicas} runs at a time; they train one by one"))
            self._waiting.extendleft(reversed(Pending(job).singles()))
            self.observe(JobEnded(worker.slot.number, self.titles(job), {}))
            return
        self._report_end(worker.slot, job, outcomes)

    def _worker_ended(self, worker: _Worker, gone: Gone) -> None:
        """A worker is gone: rightly, or with a job that now is an outcome. Its slot is free for a new one."""
        job = worker.job
        if job is not None and gone.reason and not worker.killed:
            if worker.ready:
                self._crashed(worker.slot, job, gone)
            else:
                self._start_failed(worker, gone)
        elif worker.item is not None and not worker.taken and not self._stopping:
            self._waiting.appendleft(worker.item)  # it was told to end just when it was given the job: another one takes it
        elif job is not None:
            # Stopped by its own SIGTERM, or killed by us: no outcome, the same command goes on; what it had decided is kept.
            recover(self.results.runs_path)
            stored = {run_id: self.results.run(run_id).outcome() for run_id in job.run_ids}
            self._report_end(worker.slot, job, {run_id: done.outcome if done else Outcome.INTERRUPTED for run_id, done in stored.items()})

    def _start_failed(self, worker: _Worker, gone: Gone) -> None:
        """A worker ended before it was ready: its job has lost nothing, and another worker takes it, some times in a row."""
        lines = gone.printed.splitlines() or [gone.reason]
        words = f"a worker process could not start: {lines[-1]}"
        if self._failed_starts == STARTS_AGAIN:
            self._fail(GapbenchError(f"{words}; `gapbench doctor` looks for the cause"), worker)
        elif worker.item is not None and not self._stopping:
            self._failed_starts += 1
            self.observe(Said(f"{words}; it starts again"))
            self._waiting.appendleft(worker.item)

    def _put_back(self, worker: _Worker, reason: str) -> None:
        """Another process still trains a run of the job: the others come first, and once all have ended that is an error."""
        item, worker.item = worker.item, None
        if item is None or self._stopping:
            return
        self._locked_out[item.job.run_ids] += 1
        self.observe(JobEnded(worker.slot.number, self.titles(item.job), {}))
        if self._locked_out[item.job.run_ids] == TRIES_FOR_LOCK:
            self._error = self._error or GapbenchError(reason)
        else:
            self.observe(Said(f"{reason}; it is tried again after the others"))
            self._waiting.append(item)

    def _crashed(self, slot: Slot, job: Job, gone: Gone) -> None:
        recover(self.results.runs_path)  # it may have died while it was writing outcomes
        runs = [self.results.run(run_id) for run_id in job.run_ids]
        left = [run for run in runs if run.outcome() is None]
        for run in left:
            run.append_log("\n".join(filter(None, [gone.printed, gone.reason])))
        if left:
            commit({run: RunOutcome(Outcome.CRASHED, gone.reason, run.updates_done(), replicas=job.replicas) for run in left})
        outcomes = {run.run_id: run.state() for run in runs}
        self._report_end(slot, job, outcomes, gone.reason)

    def _report_end(self, slot: Slot, job: Job, outcomes: dict[str, Outcome], reason: str = "") -> None:
        self.execution.outcomes.update(outcomes)
        bad = [run_id for run_id, outcome in outcomes.items() if outcome is not Outcome.OK]
        metric = _metric_of(job)
        headline: dict[str, float] = {}
        for run_id, outcome in outcomes.items():
            stored = self.results.run(run_id).outcome() if outcome is not Outcome.INTERRUPTED else None
            if stored is not None:
                value = stored.summary.get(metric.column("test"))
                if outcome is Outcome.OK and value is not None:
                    headline[run_id] = float(value)
                reason = reason or (stored.reason if run_id in bad else "")
        failed = [run_id for run_id, outcome in outcomes.items() if outcome in FAILED]
        failures = tuple(failure for run_id in failed if (failure := read_failure(self.results.run(run_id))))
        self.observe(JobEnded(slot.number, self.titles(job), outcomes, reason, headline, failures, metric))
        if self.fail_fast and failed and not self._stopping:
            self.observe(Said(f"--fail-fast: {failed[0]} is {outcomes[failed[0]].value}; stopping the others"))
            self._stop()

    def _fail(self, error: GapbenchError, worker: _Worker) -> None:
        self._error = self._error or error
        worker.item = None
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._waiting.clear()
        self._more = None
        for worker in self._workers.values():
            if worker.ready:
                self.executor.send(worker.slot.number, STOP)
            else:
                self._kill(worker)  # it is still starting, and has nothing to lose

    def _kill(self, worker: _Worker) -> None:
        worker.killed = True
        self.executor.kill(worker.slot.number)

    def _begun(self, done: Sequence[Job], failed: int) -> Begun:
        start = self._predictions.start
        jobs, seconds_before, basis = expected_jobs(self._waiting, self._predictions, done)
        return Begun(
            suite=self.results.suite,
            results=self.results.path,
            runs=sum(item.job.replicas for item in self._waiting),
            done=sum(job.replicas for job in done),
            failed=failed,
            slots=self.slots,
            jobs=jobs,
            seconds_before=seconds_before,
            basis=basis,
            start_seconds=start.outside_seconds + start.inside_seconds,
            command=self.command,
        )


class Interrupt:
    """Ctrl-C and SIGTERM: counted instead of raised, so that the first one stops gently and the second one at once.

    A context. Does nothing outside the main thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._add) for number in (signal.SIGINT, *STOP_SIGNALS)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _add(self, *_: object) -> None:
        self.count += 1
