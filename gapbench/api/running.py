"""Running a suite: everything is checked first, then what has no outcome trains, then tables and figures are made."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench import catalog, cost
from gapbench.api.keeping import Selection, figures, load_results, select, used_components
from gapbench.api.planning import check_hours, pending_jobs
from gapbench.api.progress import FailedRun, failed_runs
from gapbench.catalog.plugins import check_reachable
from gapbench.core.errors import StoreError
from gapbench.core.events import RETRIED, Outcome
from gapbench.core.machine import cache_dir, data_dir_default
from gapbench.execution import (
    Job,
    Layout,
    Measured,
    Observer,
    Price,
    Said,
    Settings,
    choose_devices,
    execute,
    ignore,
    measure,
    plan_layout,
    price,
)
from gapbench.sizing import program_key
from gapbench.store import Prediction, ResultsDirectory, StoredPlan, build_tables, read_tables
from gapbench.suite import Suite
from gapbench.suite.batches import shortened
from gapbench.suite.identity import run_id
from gapbench.suite.runspec import AdaptiveBatch, Component, PlannedRun, RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.analysis import ArmsTable
    from gapbench.report import ReportFiles
    from gapbench.report.figures import Figures


# --smoke: every distinct program of a suite trains three updates, small enough to see in seconds that all of it works.

UPDATES = 3
MAXIMUM_MEMORY_MIB = 4096.0
MAXIMUM_SECONDS = 2.0
"""For one update."""
TEST_EXAMPLES = 256
"""Evaluations see no more, else they would take longer than the updates."""


def smoke_suite(suite: Suite, device_kind: str) -> tuple[Suite, tuple[str, ...]]:
    """Returns the small suite, named `<suite>.smoke`, and in words what was made smaller.

    Batch and ghost sizes are divided by the same power of two until an update fits 4 GiB and two seconds, as predicted.
    """
    name = f"{suite.name}.smoke"
    chosen: dict[object, PlannedRun] = {}
    notes: list[str] = []
    for planned in suite.runs:
        short = _shortened(planned.spec)
        key = program_key(short)
        if key in chosen:
            continue
        small, divisor = _fitting(short, device_kind)
        labels = planned.labels.model_copy(update={"suite": name})
        chosen[key] = PlannedRun(run_id=run_id(small), spec=small, labels=labels)
        if divisor > 1:
            ghost = f", ghost {planned.spec.ghost_batch_size} -> {small.ghost_batch_size}" if small.ghost_batch_size else ""
            notes.append(f"{labels.cell}: batch {planned.spec.batch_size} -> {small.batch_size}{ghost}, so that an update fits")
    # Two programs may have become one, such as batches 512 and 4096 that were both divided down to 512.
    runs = tuple({planned.run_id: planned for planned in reversed(chosen.values())}.values())[::-1]
    longer = ", more where the batch grows" if any(planned.spec.updates > UPDATES for planned in runs) else ""
    if any(planned.spec.adaptive_batch for planned in runs):
        longer += ", about as many where the batch follows the noise scale"
    each = f"{UPDATES} updates each{longer}"
    said = f"--smoke: {len(runs)} of {len(suite.runs)} runs, every distinct program once, {each}; accuracies mean nothing"
    return dataclasses.replace(suite, name=name, runs=runs, dropped=(), warnings=()), (said, *notes)


def _shortened(spec: RunSpec) -> RunSpec:
    update = {"evaluations": 1, "headline_evaluations": 1, "keep_weights": (), "dataset": _few_tests(spec.dataset)}
    return spec.model_copy(update=update | shortened(spec, UPDATES))


def _few_tests(dataset: Component) -> Component:
    """Returns the data set with a small test set; one whose size is not known before it is loaded stays as it is."""
    known = catalog.datasets()[dataset.name].test_examples
    size = dataset.option("test_size", 0) or known
    if known is None or size is None or size <= TEST_EXAMPLES:
        return dataset
    return dataset.model_copy(update={"options": {**dataset.options, "test_size": TEST_EXAMPLES}})


def _fitting(spec: RunSpec, device_kind: str) -> tuple[RunSpec, int]:
    """Returns the spec with a batch that fits, and what it was divided by. What cannot be divided further stays as it is."""
    divisor = 1
    while not _fits(small := _divided(spec, divisor), device_kind) and _can_halve(small):
        divisor *= 2
    return small, divisor


def _fits(spec: RunSpec, device_kind: str) -> bool:
    estimate = cost.estimate(spec, device_kind=device_kind)
    memory = estimate.memory_mib or 0.0
    seconds = (estimate.buckets.train if estimate.buckets else 0.0) / spec.updates  # evaluations cost the same at any batch size
    return memory <= MAXIMUM_MEMORY_MIB and seconds <= MAXIMUM_SECONDS


def _can_halve(spec: RunSpec) -> bool:
    """Batch norm needs two examples in every group."""
    batches = spec.batches.sizes if spec.batches.grows else (spec.batch_size,)
    sizes = batches if spec.ghost_batch_size is None else (*batches, spec.ghost_batch_size)
    if spec.adaptive_batch is not None:
        sizes = (*sizes, spec.adaptive_batch.smallest, spec.adaptive_batch.largest)
        if spec.adaptive_batch.unit % 2:
            return False
    return all(size % 2 == 0 and size >= 4 for size in sizes)


def _divided(spec: RunSpec, divisor: int) -> RunSpec:
    ghost = spec.ghost_batch_size
    return spec.model_copy(
        update={
            "batch_size": spec.batch_size // divisor,
            "ghost_batch_size": None if ghost is None else ghost // divisor,
            "adaptive_batch": None if spec.adaptive_batch is None else _divided_rule(spec.adaptive_batch, divisor),
        }
    )


def _divided_rule(rule: AdaptiveBatch, divisor: int) -> AdaptiveBatch:
    sizes = {name: getattr(rule, name) // divisor for name in ("smallest", "largest", "unit")}
    return rule.model_copy(update={**sizes, "exchange_rate": rule.exchange_rate / divisor})


RESULTS = Path("results")
"""Default parent of results directories."""


@dataclass(frozen=True)
class Took:
    """What training took beside what was predicted when it began."""

    seconds: float
    """By the clock, from the start of the first worker to the end of the last."""
    predicted_seconds: float
    device_seconds: float
    """Of all runs, as results record them."""
    predicted_device_seconds: float
    rough: bool
    """Whether some of the prediction was a guess."""


@dataclass(frozen=True)
class RunReport:
    """What `run` came to."""

    results: Path
    """The results directory."""
    outcomes: Mapping[str, Outcome]
    """Of every selected run, those that were done before included."""
    interrupted: bool
    files: ReportFiles | None
    """Tables and figures; None after an interruption, which only refreshes the Parquet tables."""
    failed: tuple[FailedRun, ...] = ()
    """Of the selected runs, those that ended without a result, with reasons and logs."""
    took: Took | None = None
    """None where nothing trained, not all of it ended ok, or its time could not be predicted."""

    @property
    def exit_status(self) -> int:
        """0 all ok, 1 some run not ok, 130 interrupted."""
        if self.interrupted:
            return 130
        return 0 if all(outcome is Outcome.OK for outcome in self.outcomes.values()) else 1

    @property
    def arms(self) -> ArmsTable | None:
        """The arms table; None after an interruption."""
        return None if self.files is None else self.files.arms

    def frame(self) -> pd.DataFrame:
        """Returns the run table, one row a run of the whole suite: what runs.parquet holds."""
        return load_results(self.results).runs

    def figures(self) -> Figures:
        """Returns the figures as matplotlib figures by name."""
        return figures(self.results)

    def __repr__(self) -> str:
        counts = Counter(outcome.value for outcome in self.outcomes.values())
        return f"RunReport({str(self.results)!r}: {', '.join(f'{number} {outcome}' for outcome, number in counts.items())})"

    def _repr_html_(self) -> str:
        below = "" if self.arms is None else self.arms._repr_html_()
        return f"<p>{escape(repr(self))}</p>{below}"


def run(
    suite: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    devices: str | None = None,
    slots: int | None = None,
    results: str | Path = RESULTS,
    data_dir: str | Path | None = None,
    offline: bool = False,
    smoke: bool = False,
    retry: bool = False,
    force: bool = False,
    fail_fast: bool = False,
    max_device_hours: float | None = None,
    plugins: Iterable[str | Path] = (),
    observe: Observer = ignore,
    command: str = "",
) -> RunReport:
    """Trains what has no outcome yet and writes tables and figures. Interrupting is safe: calling it again goes on.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        settings: TOML values by key, such as {"epochs": "1"}; results then go to a directory of their own.
        only: trains only what matches, such as "arm=LB,seed=0"; the tables still know the rest as skipped.
        devices: such as "cuda:0,cuda:1" or "cpu"; default: all GPUs, else the CPU.
        slots: runs that train at a time; default: one a core, or one a GPU and more where its runs are small.
        results: parent of the suite's results directory.
        data_dir: where data sets are; default: GAPBENCH_DATA, else downloads into the cache.
        offline: never download.
        smoke: three updates of every program, in `<suite>.smoke/`.
        retry: trains crashed, timed-out and out-of-memory runs again.
        force: trains everything selected again; old attempts stay beside the new ones.
        fail_fast: stops at the first run that is not ok.
        max_device_hours: refuses to train where the prediction is longer.
        plugins: Python files with the user's own components.
        observe: receives notices while it trains.
        command: what `gapbench status` tells others to call to go on after an interruption.

    Raises:
        GapbenchError: anything that can be known before training is wrong; nothing was written.
    """
    selection = select(suite, settings=settings, only=only, plugins=plugins)
    chosen = choose_devices(devices)
    if smoke:
        small, notes = smoke_suite(selection.chosen, chosen[0].kind)
        selection = Selection(small, small, selection.plugins)
        for note in notes:
            observe(Said(note))
    whole, runs, selected = selection.whole, selection.specs, selection.run_ids
    path = Path(results) / whole.name
    again = _retired_outcomes(retry=retry, force=force)
    how = Settings(
        devices=chosen,
        slots=slots,
        data_dir=Path(data_dir).expanduser() if data_dir else data_dir_default(),
        offline=offline,
        suite_dir=whole.path.parent,
        plugins=selection.plugins,
        fail_fast=fail_fast,
        command=command,
    )
    _check(whole, path, runs, selected, again, how, max_device_hours, observe)
    with ResultsDirectory.create(path, whole.name) as directory:
        retire(directory, selected, again)
        layout = plan_layout(runs, how.devices, how.slots)
        foreseen = price(pending_jobs(directory, layout.jobs, selected), layout.slots)
        directory.write_plan(stored_plan(whole, _predictions(directory, foreseen, layout)), _resolved(whole, smoke=smoke))
        began = time.monotonic()
        done = execute(directory, runs, selected, how, titles=Titles(whole.runs), observe=observe)
        seconds = time.monotonic() - began
        build_tables(directory)
        outcomes = {run_id: directory.run(run_id).state() for run_id in selected}
        failed = failed_runs(directory, whole.runs, set(selected))
        if done.interrupted:
            return RunReport(path, outcomes, interrupted=True, files=None, failed=failed)
        from gapbench.report import write_report

        files = write_report(path)
        return RunReport(path, outcomes, interrupted=False, files=files, failed=failed, took=_took(path, seconds, foreseen, outcomes))


def stored_plan(suite: Suite, predictions: Mapping[str, Prediction]) -> StoredPlan:
    """Returns what the results directory keeps of a suite."""
    return StoredPlan(suite.name, suite.runs, suite.report.to_dict(), predictions)


def _predictions(directory: ResultsDirectory, foreseen: Price, layout: Layout) -> dict[str, Prediction]:
    """Predicts what trains now and what else has no outcome yet; what has one keeps the prediction from before it trained, or none."""
    try:
        kept = directory.plan().predictions
    except StoreError:  # there is none yet, or a damaged one, which is now written anew
        kept = {}
    every = price(pending_jobs(directory, layout.jobs, [run_id for job in layout.jobs for run_id in job.run_ids]), layout.slots)
    # Of a run that goes on, results will record all of it, so the prediction from before it began still holds.
    begun = {run_id for job in every.jobs if job.pending.update > 0 for run_id in job.pending.job.run_ids}
    found = {**every.of_runs(), **foreseen.of_runs()}
    return {**kept, **{run_id: Prediction(*prediction) for run_id, prediction in found.items() if run_id not in begun}}


def _took(path: Path, seconds: float, foreseen: Price, outcomes: Mapping[str, Outcome]) -> Took | None:
    trained = {run_id for job in foreseen.jobs for run_id in job.pending.job.run_ids}
    whole = all(job.pending.update == 0 and job.seconds is not None for job in foreseen.jobs)
    if not trained or not whole or any(outcomes.get(run_id) is not Outcome.OK for run_id in trained):
        return None
    from gapbench.analysis.environment import prices

    total = prices(read_tables(path).runs, trained)[-1]
    rough = any(job.basis == "rough" for job in foreseen.jobs)
    return Took(seconds, foreseen.wall_seconds, total.actual_seconds, total.predicted_seconds, rough)


class Titles:
    """Names a job for people: its cell and seed, or its cell and how many seeds."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self._labels: dict[str, PlannedRun] = {}
        for planned in runs:
            self._labels.setdefault(planned.run_id, planned)

    def __call__(self, job: Job) -> str:
        """Returns the name."""
        members = [self._labels[run_id] for run_id in job.run_ids]
        cells = ", ".join(dict.fromkeys(member.labels.cell for member in members))
        return f"{cells} seed {members[0].spec.seed}" if len(members) == 1 else f"{cells} × {len(members)}"


def _check(
    suite: Suite,
    path: Path,
    runs: Mapping[str, RunSpec],
    selected: Sequence[str],
    again: frozenset[Outcome],
    how: Settings,
    max_device_hours: float | None,
    observe: Observer,
) -> None:
    """Raises what can be known to be wrong before anything trains. Writes nothing but what data sets keep in the cache."""
    ResultsDirectory.check(path, suite.name)
    check_reachable(used_components(runs.values()), how.plugins)
    directory = ResultsDirectory(path, suite.name)
    left = [run_id for run_id in selected if (done := directory.run(run_id).outcome()) is None or done.outcome in again]
    if max_device_hours is not None:  # before data are downloaded for a suite that is refused
        layout = plan_layout(runs, how.devices, how.slots)
        foreseen = price(pending_jobs(directory, layout.jobs, selected, again), layout.slots)
        for note in check_hours(foreseen.jobs, max_device_hours, {planned.run_id: planned.labels.cell for planned in suite.runs}):
            observe(Said(note))
    check_data([runs[run_id] for run_id in left], how)


def check_data(specs: Iterable[RunSpec], how: Settings) -> None:
    """Raises DataError where a data set of these runs is not available. Downloads what is missing unless offline."""
    from gapbench.workloads import datasets

    context = datasets.DataContext(data_dir=how.data_dir, cache_dir=cache_dir(), offline=how.offline, suite_dir=how.suite_dir)
    for component in {spec.dataset.model_dump_json(): spec.dataset for spec in specs}.values():
        datasets.check_available(component, context)


def _retired_outcomes(*, retry: bool, force: bool) -> frozenset[Outcome]:
    if force:
        return frozenset(Outcome)
    return RETRIED if retry else frozenset()


def retire(directory: ResultsDirectory, selected: Iterable[str], again: frozenset[Outcome]) -> None:
    """Moves attempts that are to be repeated out of the way. Runs that never ended go on from where they are."""
    for one in selected:
        run = directory.run(one)
        outcome = run.outcome()
        if outcome is not None and outcome.outcome in again:
            with run.locked(timeout=60.0):
                pass  # the worker of an earlier start may still be writing its last files
            directory.retire(one)


def _resolved(suite: Suite, *, smoke: bool) -> str:
    text = suite.resolved_toml()
    return f"# run with --smoke: three updates of every program of this suite\n{text}" if smoke else text


# Calibrating: a short measurement of this machine, so that plans of a suite say what it takes here.


def calibrate(
    suite: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    devices: str | None = None,
    slots: int | None = None,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    offline: bool = False,
    plugins: Iterable[str | Path] = (),
    say: Callable[[str], None] = lambda _text: None,
) -> Measured:
    """Measures for a few minutes how fast what is left of a suite trains here. Later plans, and `run`, then predict from it.

    It keeps every slot busy, as training does; what else runs meanwhile makes it slower than it is. Trains nothing and stores nothing but
    what it found, in the cache.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        settings: TOML values by key.
        only: measures only programs of what matches.
        devices: such as "cuda:0" or "cpu"; default: all GPUs, else the CPU.
        slots: runs that train at a time.
        results: parent of the suite's results directory, to see what is done already.
        data_dir: where data sets are; default: GAPBENCH_DATA, else downloads into the cache.
        offline: never download.
        plugins: Python files with the user's own components.
        say: receives what is about to be done, and what could not be.

    Raises:
        GapbenchError: the suite is wrong, a device or data set is missing, or no measuring process can start.
    """
    selection = select(suite, settings=settings, only=only, plugins=plugins)
    whole, specs = selection.whole, selection.specs
    how = Settings(
        devices=choose_devices(devices),
        slots=slots,
        data_dir=Path(data_dir).expanduser() if data_dir else data_dir_default(),
        offline=offline,
        suite_dir=whole.path.parent,
        plugins=selection.plugins,
    )
    directory = ResultsDirectory(Path(results) / whole.name, whole.name)
    left = [run_id for run_id in selection.run_ids if directory.run(run_id).outcome() is None]
    if not left:
        say("nothing is left to train, so nothing was measured")
        return Measured(0, {})
    check_data([specs[run_id] for run_id in left], how)
    found = measure(specs, left, how, titles=Titles(whole.runs), say=say)
    for title, reason in found.left_out.items():
        say(f"not measured: {title}: {reason}")
    return found
