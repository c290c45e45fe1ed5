"""The parent: hands jobs to workers, sees to it that they fit in memory, and deals with whatever happens to them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gapbench.core.errors import GapbenchError
from gapbench.core.events import Outcome
from gapbench.core.machine import free_memory_mib, resident_mib
from gapbench.cost.calibration import start_of_worker
from gapbench.execution.expected import expected_jobs
from gapbench.execution.interrupt import Interrupt
from gapbench.execution.jobs import Job, Predictions, Slot, place_of, predicted_memory_mib
from gapbench.execution.notices import Begun, Ended, JobEnded, JobProgressed, JobStarted, Observer, Said, Stopping
from gapbench.execution.packing import Packing
from gapbench.execution.pool import WORKER_COMMAND, Message, Worker, how_it_died
from gapbench.execution.protocol import Setup
from gapbench.execution.resume import Pending, in_order
from gapbench.store import FAILED, ResultsDirectory, RunOutcome, commit, read_failure, recover

POLL_SECONDS = 0.5
"""How often memory is looked at again while something waits for it; signals are noticed at once or in this time."""

MEMORY_HEADROOM_MIB = 256.0
"""Left free, for everything that the prediction does not know."""


@dataclass
class Execution:
    """What came of it."""

    interrupted: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of the runs that trained now; interrupted ones included."""


class Scheduler:
    """Trains pending jobs in slots. Use `execute`."""

    def __init__(
        self,
        results: ResultsDirectory,
        slots: Sequence[Slot],
        setup_of: Callable[[Slot], Setup],
        *,
        titles: Callable[[Job], str],
        observe: Observer,
        fail_fast: bool = False,
        command: str = "",
        worker_command: Sequence[str] = WORKER_COMMAND,
        free_mib: Callable[[], float] = free_memory_mib,
    ) -> None:
        self._results = results
        self._slots = tuple(slots)
        self._packing = Packing(slots)
        self._setup_of = setup_of
        self._titles = titles
        self._observe = observe
        self._fail_fast = fail_fast
        self._user_command = command
        self._command = tuple(worker_command)
        self._free_mib = free_mib
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._workers: dict[int, Worker] = {}
        self._waiting: list[Pending] = []
        self._needs: dict[tuple[str, ...], float | None] = {}
        self._stopping = False
        self._killing = False
        self._error: GapbenchError | None = None
        self.execution = Execution()

    def execute(self, pending: Sequence[Pending], *, done: Sequence[Job] = (), failed: int = 0) -> Execution:
        """Trains the pending jobs and returns what came of it.

        Args:
            pending: what is left to do.
            done: what is selected and has been done before.
            failed: how many runs of that are not ok.

        Raises:
            GapbenchError: workers cannot start, or the results directory cannot be written to; outcomes so far are kept.
        """
        self._waiting = in_order(pending, Predictions(place_of(self._slots)))
        with Interrupt() as interrupt:
            try:
                self._observe(self._begun(done, failed))
                self._loop(interrupt)
            finally:
                for worker in list(self._workers.values()):  # only after an error of our own
                    worker.kill()
                    self._forget(worker)
            if self._error is None:
                self._observe(Ended(self.execution.interrupted))
        if self._error is not None:
            raise self._error
        return self.execution

    def _loop(self, interrupt: Interrupt) -> None:
        while self._waiting or self._workers:
            if interrupt.asked and not self._stopping:
                self.execution.interrupted = True
                self._observe(Stopping(at_once=False))
                self._stop()
            if interrupt.asked > 1 and not self._killing:
                self._killing = True
                self._observe(Stopping(at_once=True))
                for worker in self._workers.values():
                    worker.kill()
            if not self._stopping:
                self._dispatch()
            try:
                worker, message = self._inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                self._worker_ended(worker)
            else:
                self._worker_said(worker, message)

    def _dispatch(self) -> None:
        """Gives work to every free slot; lets idle workers go where none is left, so that they hold no memory."""
        for slot in self._slots:
            worker = self._workers.get(slot.number)
            if worker is not None and (worker.job is not None or worker.leaving):
                continue
            item = self._next(slot)
            if item is None:
                if worker is not None and not self._waiting:
                    worker.dismiss()
                continue
            if worker is None:
                worker = Worker(slot, self._setup_of(slot), self._inbox, self._command)
                self._workers[slot.number] = worker
            worker.give(item, at_a_time=self._packing.most(item.job, slot))
            self._observe(JobStarted(slot.number, self._titles(item.job), item.job.run_ids, item.job.specs[0].updates, item.update))

    def _next(self, slot: Slot) -> Pending | None:
        """Takes the longest waiting job that may begin now; one that can never fit is an outcome, said in words."""
        if slot.device.kind != "cpu":  # a GPU says itself when its memory does not suffice; a kernel kills
            return self._next_on_gpu(slot)
        room = self._room_mib(slot) if self._waiting else 0.0
        for item in list(self._waiting):
            need = self._need_mib(item.job)
            if need is None or need <= room:
                self._waiting.remove(item)
                return item
            if not any(worker.job is not None for worker in self._workers.values()):
                self._waiting.remove(item)
                self._too_large(item, slot, need)
        return None

    def _next_on_gpu(self, slot: Slot) -> Pending | None:
        beside = [worker.job for worker in self._workers.values() if worker.job is not None and worker.slot.device == slot.device]
        for item in self._waiting:
            if self._packing.admits(item.job, slot, beside):
                self._waiting.remove(item)
                return item
        return None

    def _room_mib(self, slot: Slot) -> float:
        """Returns how much memory a job in this slot may take, counting what running jobs are yet to take."""
        room = self._free_mib() - MEMORY_HEADROOM_MIB
        for worker in self._workers.values():
            held = resident_mib(worker.pid)
            if worker.slot == slot:
                room += held  # the idle worker that would get the job
            elif worker.job is not None:
                room -= max(0.0, (self._need_mib(worker.job) or 0.0) - held)
        return room

    def _need_mib(self, job: Job) -> float | None:
        if job.run_ids not in self._needs:
            self._needs[job.run_ids] = predicted_memory_mib(job, "cpu")
        return self._needs[job.run_ids]

    def _too_large(self, item: Pending, slot: Slot, need: float) -> None:
        if item.job.replicas > 1:
            self._waiting.extend(item.singles())
            return
        free = self._free_mib()
        reason = (
            f"needs about {need:,.0f} MiB, {free:,.0f} MiB are free: not started, for the kernel would kill it; "
            "end other programs or use a machine with more memory, then --retry"
        )
        run = self._results.run(item.job.run_ids[0])
        commit({run: RunOutcome(Outcome.OUT_OF_MEMORY, reason)})
        self._report_end(slot, item.job, {run.run_id: Outcome.OUT_OF_MEMORY}, reason)

    def _worker_said(self, worker: Worker, message: Mapping[str, object]) -> None:
        match message:
            case {"kind": "ready"}:
                worker.ready = True
            case {"kind": "started", "update": int(update), "updates": int(updates)}:
                self._observe(JobProgressed(worker.slot.number, update, updates, 0.0, ()))
            case {"kind": "taken"}:
                worker.taken = True
            case {"kind": "refused", "error": str(text)}:
                self._fail(GapbenchError(text), worker)
            case {
                "kind": "progress",
                "update": int(update),
                "updates": int(updates),
                "examples_per_second": rate,
                "test_accuracy": list(seen),
            }:
                accuracy = tuple(value if value is None else float(value) for value in seen)
                self._observe(JobProgressed(worker.slot.number, update, updates, float(str(rate)), accuracy))
            case {"kind": "ended", "outcomes": dict(outcomes), "written": list(written), "fit": bool(fit)}:
                worker.leaving = not fit
                self._job_ended(worker, {run_id: Outcome(value) for run_id, value in outcomes.items()}, set(written))
            case _:
                pass  # checkpoint: nothing to do here

    def _job_ended(self, worker: Worker, outcomes: dict[str, Outcome], written: set[str]) -> None:
        job, worker.item = worker.job, None
        if job is None:
            return
        if Outcome.OUT_OF_MEMORY in outcomes.values() and not written:
            self._observe(Said(f"{self._titles(job)}: memory did not suffice for {job.replicas} runs at a time; they train one by one"))
            self._waiting = [*Pending(job, None, 0).singles(), *self._waiting]
            self._observe(JobEnded(worker.slot.number, self._titles(job), {}))
            return
        self._report_end(worker.slot, job, outcomes)

    def _worker_ended(self, worker: Worker) -> None:
        """A worker is gone: rightly, or with a job that now is an outcome. Its slot is free for a new one."""
        status = worker.wait()
        job = worker.job
        if job is not None and status != 0 and not worker.killed:
            if not worker.ready:
                lines = worker.words().splitlines() or [how_it_died(status)]
                self._fail(GapbenchError(f"a worker process could not start: {lines[-1]}; `gapbench doctor` looks for the cause"), worker)
            else:
                self._crashed(worker, job, how_it_died(status))
        elif worker.item is not None and not worker.taken and not self._stopping:
            self._waiting.insert(0, worker.item)  # it was told to end just when it was given the job: another one takes it
        elif job is not None:
            # Stopped by its own SIGTERM, or killed by us: no outcome, the same command goes on; what it had decided is kept.
            recover(self._results.runs_path)
            stored = {run_id: self._results.run(run_id).outcome() for run_id in job.run_ids}
            self._report_end(worker.slot, job, {run_id: done.outcome if done else Outcome.INTERRUPTED for run_id, done in stored.items()})
        self._forget(worker)

    def _crashed(self, worker: Worker, job: Job, reason: str) -> None:
        recover(self._results.runs_path)  # it may have died while it was writing outcomes
        runs = [self._results.run(run_id) for run_id in job.run_ids]
        left = [run for run in runs if run.outcome() is None]
        for run in left:
            run.append_log("\n".join(filter(None, [worker.words(), reason])))
        if left:
            commit({run: RunOutcome(Outcome.CRASHED, reason, run.updates_done(), replicas=job.replicas) for run in left})
        outcomes = {run.run_id: run.state() for run in runs}
        self._report_end(worker.slot, job, outcomes, reason)

    def _report_end(self, slot: Slot, job: Job, outcomes: dict[str, Outcome], reason: str = "") -> None:
        self.execution.outcomes.update(outcomes)
        bad = [run_id for run_id, outcome in outcomes.items() if outcome is not Outcome.OK]
        accuracy: dict[str, float | None] = {}
        for run_id, outcome in outcomes.items():
            stored = self._results.run(run_id).outcome() if outcome is not Outcome.INTERRUPTED else None
            if stored is not None:
                value = stored.summary.get("test_accuracy") if outcome is Outcome.OK else None
                accuracy[run_id] = None if value is None else float(value)
                reason = reason or (stored.reason if run_id in bad else "")
        failed = [run_id for run_id, outcome in outcomes.items() if outcome in FAILED]
        failures = tuple(failure for run_id in failed if (failure := read_failure(self._results.run(run_id))))
        self._observe(JobEnded(slot.number, self._titles(job), outcomes, reason, accuracy, failures))
        if self._fail_fast and failed and not self._stopping:
            self._observe(Said(f"--fail-fast: {failed[0]} is {outcomes[failed[0]].value}; stopping the others"))
            self._stop()

    def _fail(self, error: GapbenchError, worker: Worker) -> None:
        self._error = self._error or error
        worker.item = None
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._waiting = []
        for worker in self._workers.values():
            if worker.ready:
                worker.ask_to_stop()
            else:
                worker.kill()  # it is still starting, and has nothing to lose

    def _forget(self, worker: Worker) -> None:
        worker.wait()
        worker.close()
        self._workers.pop(worker.slot.number, None)

    def _begun(self, done: Sequence[Job], failed: int) -> Begun:
        place = place_of(self._slots)
        start = start_of_worker(place)
        jobs, seconds_before, basis = expected_jobs(self._waiting, place, done, width=self._packing.width)
        return Begun(
            suite=self._results.suite,
            results=self._results.path,
            runs=sum(item.job.replicas for item in self._waiting),
            done=sum(job.replicas for job in done),
            failed=failed,
            slots=len(self._slots),
            threads=self._slots[0].threads,
            devices=tuple(dict.fromkeys(slot.device.name for slot in self._slots)),
            jobs=jobs,
            seconds_before=seconds_before,
            basis=basis,
            start_seconds=start.outside_seconds + start.inside_seconds,
            command=self._user_command,
        )
