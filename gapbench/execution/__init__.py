"""Where runs train: worker processes in slots, outcomes, time limits, checkpoints. The parent process imports no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from gapbench.core.events import Outcome
from gapbench.core.machine import cache_dir, total_memory_mib, usable_cores
from gapbench.execution.calibrating import Measured as Measured, Calibration, Stopwatch
from gapbench.execution.devices import Device, choose_devices as choose_devices
from gapbench.execution.executor import Executor, Setup, LocalProcesses as LocalProcesses
from gapbench.execution.jobs import (
    Job as Job,
    Pending as Pending,
    Predictions as Predictions,
    Slot,
    plan_jobs,
    plan_slots,
    find_pending as find_pending,
    place_of as place_of,
)
from gapbench.execution.notices import (
    Begun as Begun,
    Ended as Ended,
    JobEnded as JobEnded,
    Notice as Notice,
    Observer as Observer,
    Said as Said,
    Stopping as Stopping,
    ignore as ignore,
)
from gapbench.execution.progress import Heartbeat, Running as Running, Tracker as Tracker
from gapbench.execution.rules import Price as Price, PricedJob as PricedJob, price as price
from gapbench.execution.scheduler import Execution, Scheduler
from gapbench.store import ResultsDirectory, describe_machine
from gapbench.suite.runspec import RunSpec


@dataclass(frozen=True)
class Layout:
    """How a plan is spread over this machine."""

    jobs: tuple[Job, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Settings:
    """What `execute` needs besides the runs."""

    devices: tuple[Device, ...]
    slots: int | None = None
    """The user's own number; None: chosen."""
    data_dir: Path | None = None
    offline: bool = False
    suite_dir: Path | None = None
    """What paths in the suite are relative to."""
    plugins: tuple[str, ...] = ()
    """Absolute paths of plugin files."""
    fail_fast: bool = False
    checkpoint_seconds: float = 60.0
    command: str = ""
    """What a user calls to go on, for those who look at the results from elsewhere."""


def plan_layout(runs: Mapping[str, RunSpec], devices: tuple[Device, ...], slots: int | None = None) -> Layout:
    """Returns the jobs and slots of a whole plan: they depend on it and on the machine alone, not on what is done already."""
    cores = usable_cores()
    places = slots or (cores if devices[0].kind == "cpu" else len(devices))
    jobs = plan_jobs(runs, places, devices[0].kind)
    return Layout(jobs, plan_slots(jobs, devices, cores=cores, memory_mib=total_memory_mib(), slots=slots))


def measure(
    runs: Mapping[str, RunSpec],
    selected: Collection[str],
    settings: Settings,
    *,
    titles: Callable[[Job], str],
    say: Callable[[str], None],
    executor: Executor | None = None,
) -> Measured:
    """Measures for a few minutes how fast the programs of runs are here, and lets later plans know. Trains and stores no run.

    Args:
        runs: the whole plan, by id: it decides how they would be stacked and placed.
        selected: ids of those whose programs are measured.
        settings: devices, data, plugins.
        titles: names a job for people.
        say: receives what is about to be done.
        executor: runs the workers; default: processes of this machine.

    Raises:
        GapbenchError: workers cannot start.
        KeyboardInterrupt: it was interrupted.
    """
    layout = plan_layout(runs, settings.devices, settings.slots)
    jobs = [job for job in layout.jobs if not set(selected).isdisjoint(job.run_ids)]
    with tempfile.TemporaryDirectory() as folder, ResultsDirectory.create(Path(folder), "calibration") as results:
        calibration = Calibration(results, jobs, layout.slots, titles, say)
        setup_of, where = _setups(results, settings), executor or LocalProcesses()
        watch = calibration.stopwatch()
        scheduler = Scheduler(
            results, layout.slots, setup_of, where, lambda job: ", ".join(job.run_ids), watch, fail_fast=False, command=""
        )
        if scheduler.execute((), more=calibration.rounds()).interrupted:
            raise KeyboardInterrupt
    return Measured(calibration.measured, calibration.left_out)


def execute(
    results: ResultsDirectory,
    runs: Mapping[str, RunSpec],
    selected: Collection[str],
    settings: Settings,
    *,
    titles: Callable[[Job], str],
    observe: Observer = ignore,
    executor: Executor | None = None,
) -> Execution:
    """Trains those of the selected runs that have no outcome. Call it under the lock of the results directory.

    Args:
        results: where runs are kept.
        runs: the whole plan, by id.
        selected: ids to train.
        settings: devices, data, plugins.
        titles: names a job for people.
        observe: receives notices.
        executor: runs the workers; default: processes of this machine.

    Raises:
        GapbenchError: workers cannot start, or files cannot be written.
    """
    layout = plan_layout(runs, settings.devices, settings.slots)
    pending = find_pending(results, layout.jobs, selected)
    if not pending:
        return Execution()
    to_train = {run_id for item in pending for run_id in item.job.run_ids}
    done = set(selected) - to_train
    before = [part for job in layout.jobs if (part := job.part(done))]
    failed = sum(results.run(run_id).state() is not Outcome.OK for run_id in done)
    stopwatch = Stopwatch(results, layout.slots, {run_id: runs[run_id] for run_id in to_train})
    with Heartbeat(results) as beat:

        def watch(notice: Notice) -> None:
            stopwatch(notice)
            beat(notice)
            observe(notice)

        setup_of, where = _setups(results, settings), executor or LocalProcesses()
        scheduler = Scheduler(results, layout.slots, setup_of, where, titles, watch, settings.fail_fast, settings.command)
        return scheduler.execute(pending, done=before, failed=failed)


def _setups(results: ResultsDirectory, settings: Settings) -> Callable[[Slot], Setup]:
    machine = describe_machine()

    def setup_of(slot: Slot) -> Setup:
        return Setup(
            results=results.path,
            suite=results.suite,
            device="cpu" if slot.device.kind == "cpu" else "cuda:0",
            device_label=slot.device.name,
            device_name=slot.device.label,
            threads=slot.threads,
            data_dir=settings.data_dir and settings.data_dir.absolute(),
            cache_dir=cache_dir().absolute(),
            offline=settings.offline,
            suite_dir=settings.suite_dir and settings.suite_dir.absolute(),
            plugins=settings.plugins,
            machine=machine,
            checkpoint_seconds=settings.checkpoint_seconds,
        )

    return setup_of
