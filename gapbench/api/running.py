"""Running a suite: everything is checked first, then what has no outcome trains, then tables and figures are made.

Also calibrating: a short measurement of this machine, so that plans of a suite say what it takes here.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from gapbench import catalog, cost
from gapbench.analysis import ArmsTable
from gapbench.analysis.environment import prices
from gapbench.analysis.formats import counted
from gapbench.api.keeping import damage_words, load_results
from gapbench.api.place import HERE, Place, Where
from gapbench.api.planning import Selection, Work, check_hours, select, titles
from gapbench.api.reporting import figures
from gapbench.api.state import FailedRun, failed_runs
from gapbench.catalog.plugins import check_reachable, plugin_files
from gapbench.core.errors import StoreError
from gapbench.core.events import RETRIED, Outcome
from gapbench.execution import Job, Measured, Observer, Price, Said, choose_devices, execute, ignore, measure
from gapbench.report import ReportFiles, write_report
from gapbench.report.figures import Figures
from gapbench.sizing import program_key
from gapbench.store import Prediction, ResultsDirectory, StoredPlan, build_tables, read_tables
from gapbench.suite import Suite
from gapbench.suite.batches import shortened
from gapbench.suite.runspec import Component, PlannedRun, RunSpec, run_id, used_components

if TYPE_CHECKING:
    import pandas as pd


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
    place: Place = HERE,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    smoke: bool = False,
    retry: bool = False,
    force: bool = False,
    fail_fast: bool = False,
    max_device_hours: float | None = None,
    observe: Observer = ignore,
    command: str = "",
    **where: Unpack[Where],
) -> RunReport:
    """Trains what has no outcome yet and writes tables and figures. Interrupting is safe: calling it again goes on.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        place: where data are and results go, and what trains.
        settings: TOML values by key, such as {"epochs": "1"}; results then go to a directory of their own.
        only: trains only what matches, such as "arm=LB,seed=0"; the tables still know the rest as skipped.
        smoke: three updates of every program, in `<suite>.smoke/`.
        retry: trains crashed, timed-out and out-of-memory runs again.
        force: trains everything selected again; old attempts stay beside the new ones.
        fail_fast: stops at the first run that is not ok.
        max_device_hours: refuses to train where the prediction is longer.
        observe: receives notices while it trains.
        command: what `gapbench status` tells others to call to go on after an interruption.
        where: fields of the place, for this call, such as devices="cpu".

    Raises:
        GapbenchError: anything that can be known before training is wrong; nothing was written.
    """
    place = place.but(**where)
    selection = select(suite, place, settings=settings, only=only)
    if smoke:
        small, notes = smoke_suite(selection.chosen, choose_devices(place.devices)[0].kind)
        selection = Selection(small, small)
        for note in notes:
            observe(Said(note))
    whole, selected = selection.whole, selection.run_ids
    work = selection.at(place, fail_fast=fail_fast, command=command)
    path = work.directory.path
    again = frozenset(Outcome) if force else RETRIED if retry else frozenset()
    damaged = work.directory.damaged(selected)
    for note in damage_words(work.directory, damaged):
        observe(Said(note))
    _check(work, selection, place, again, max_device_hours, observe, damaged)
    for note in () if force else changed_plugins(work.directory, work.specs):
        observe(Said(note))
    with ResultsDirectory.create(path, whole.name) as directory:
        retire(directory, selected, again, damaged)
        work = dataclasses.replace(work, directory=directory)
        priced = work.price(selected)
        commands = tuple(dict.fromkeys([*_stored(directory).commands, command or _command(suite, place, settings, only)]))
        plan = StoredPlan(whole.name, whole.runs, whole.report.to_dict(), _predictions(work, priced), commands)
        note = "# run with --smoke: three updates of every program of this suite\n" if smoke else ""
        directory.write_plan(plan, f"{note}{whole.resolved_toml()}")
        began = time.monotonic()
        done = execute(directory, work.specs, selected, work.how, titles=_titles(whole), observe=observe)
        seconds = time.monotonic() - began
        for note in damage_words(directory, build_tables(directory)):
            observe(Said(note))
        outcomes = {run_id: directory.run(run_id).state() for run_id in selected}
        failed = failed_runs(directory, whole.runs, set(selected))
        if done.interrupted:
            return RunReport(path, outcomes, interrupted=True, files=None, failed=failed)
        files = write_report(path)
        return RunReport(path, outcomes, interrupted=False, files=files, failed=failed, took=_took(path, seconds, priced, outcomes))


def _predictions(work: Work, priced: Price) -> dict[str, Prediction]:
    """Predicts what trains now and what else has no outcome yet; what has one keeps the prediction from before it trained, or none."""
    every = work.price(work.specs)
    # Of a run that goes on, results will record all of it, so the prediction from before it began still holds.
    begun = {run_id for job in every.jobs if job.pending.update > 0 for run_id in job.pending.job.run_ids}
    found = {**every.of_runs(), **priced.of_runs()}
    return {
        **kept_predictions(work.directory),
        **{run_id: Prediction(*prediction) for run_id, prediction in found.items() if run_id not in begun},
    }


def kept_predictions(directory: ResultsDirectory) -> Mapping[str, Prediction]:
    """Returns what the stored plan predicts; empty where there is none yet."""
    return _stored(directory).predictions


def _stored(directory: ResultsDirectory) -> StoredPlan:
    """Returns the stored plan; an empty one where there is none yet, or a damaged one, which is then written anew."""
    try:
        return directory.plan()
    except StoreError:
        return StoredPlan(directory.suite, ())


def _command(suite: str | Path, place: Place, settings: Mapping[str, str] | None, only: str | None) -> str:
    """Returns the command that does what a call from Python does."""
    options = [("--plugin", str(path)) for path in place.plugins]
    options += [("--set", f"{key}={value}") for key, value in (settings or {}).items()]
    return shlex.join(["gapbench", "run", str(suite), *itertools.chain(*options), *(("--only", only) if only else ())])


def changed_plugins(directory: ResultsDirectory, specs: Mapping[str, RunSpec]) -> list[str]:
    """Returns a sentence for each plugin file that is not what runs of the directory were trained with."""
    trained: dict[str, set[str]] = {}
    for one, spec in specs.items():
        files = plugin_files(used_components([spec]))
        sessions = directory.run(one).sessions() if files else []
        then = sessions[-1].get("plugins") if sessions else None
        for name in [name for name, text in files.items() if then and then.get(name, text) != text]:
            trained.setdefault(name, set()).add(one)
    return [
        f"{name} has changed since {counted(len(found), 'run')} of this suite trained with it: results of both versions would stand "
        "side by side; if the change matters, raise the component's version=, which gives its runs new ids, or train all anew with --force"
        for name, found in sorted(trained.items())
    ]


def _took(path: Path, seconds: float, priced: Price, outcomes: Mapping[str, Outcome]) -> Took | None:
    trained = {run_id for job in priced.jobs for run_id in job.pending.job.run_ids}
    whole = all(job.pending.update == 0 and job.seconds is not None for job in priced.jobs)
    if not trained or not whole or any(outcomes.get(run_id) is not Outcome.OK for run_id in trained):
        return None
    total = prices(read_tables(path).runs, trained)[-1]
    rough = any(job.basis == "rough" for job in priced.jobs)
    return Took(seconds, priced.wall_seconds, total.actual_seconds, total.predicted_seconds, rough)


def _titles(suite: Suite) -> Callable[[Job], str]:
    labels = {planned.run_id: planned for planned in reversed(suite.runs)}  # the first labels of a run name it
    return titles({run_id: (first.labels.cell, f" seed {first.spec.seed}") for run_id, first in labels.items()})


def _check(
    work: Work,
    selection: Selection,
    place: Place,
    again: frozenset[Outcome],
    max_device_hours: float | None,
    observe: Observer,
    damaged: Collection[str],
) -> None:
    """Raises what can be known to be wrong before anything trains. Writes nothing but what data sets keep in the cache."""
    suite, selected = selection.whole, selection.run_ids
    ResultsDirectory.check(work.directory.path, suite.name)
    check_reachable(used_components(work.specs.values()), work.how.plugins)
    if max_device_hours is not None:  # before data are downloaded for a suite that is refused
        cells = {planned.run_id: planned.labels.cell for planned in suite.runs}
        for note in check_hours(work.price(selected, again).jobs, max_device_hours, cells):
            observe(Said(note))
    check_data([work.specs[run_id] for run_id in {*work.left(selected, again), *damaged}], place, suite)


def check_data(specs: Iterable[RunSpec], place: Place, suite: Suite) -> None:
    """Raises DataError where a data set of these runs is not available. Downloads what is missing unless offline."""
    from gapbench.workloads import datasets

    context = place.data_context(suite.path.parent)
    for component in {spec.dataset.model_dump_json(): spec.dataset for spec in specs}.values():
        datasets.check_available(component, context)


def retire(directory: ResultsDirectory, selected: Iterable[str], again: frozenset[Outcome], damaged: Collection[str] = ()) -> None:
    """Moves attempts that are to be repeated, and damaged ones, out of the way. Runs that never ended go on from where they are."""
    for one in selected:
        run = directory.run(one)
        outcome = run.outcome()
        if one in damaged or (outcome is not None and outcome.outcome in again):
            with run.locked(timeout=60.0):
                pass  # the worker of an earlier start may still be writing its last files
            directory.retire(one)


def calibrate(
    suite: str | Path,
    place: Place = HERE,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
    **where: Unpack[Where],
) -> Measured:
    """Measures for a few minutes how fast what is left of a suite trains here. Later plans, and `run`, then predict from it.

    It keeps every slot busy, as training does; what else runs meanwhile makes it slower than it is. Trains nothing and stores nothing but
    what it found, in the cache.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        place: what to measure on, where data are, and the results that show what is done already.
        settings: TOML values by key.
        only: measures only programs of what matches.
        say: receives what is about to be done, and what could not be.
        where: fields of the place, for this call, such as devices="cpu".

    Raises:
        GapbenchError: the suite is wrong, a device or data set is missing, or no worker can start.
    """
    place = place.but(**where)
    selection = select(suite, place, settings=settings, only=only)
    work = selection.at(place)
    left = work.left(selection.run_ids)
    if not left:
        say("nothing is left to train, so nothing was measured")
        return Measured(0, {})
    check_data([work.specs[run_id] for run_id in left], place, selection.whole)
    found = measure(work.specs, left, work.how, titles=_titles(selection.whole), say=say)
    for title, reason in found.left_out.items():
        say(f"not measured: {title}: {reason}")
    return found


UPDATES = 3
"""Of every program of `--smoke`."""
MAXIMUM_MEMORY_MIB = 4096.0
MAXIMUM_SECONDS = 2.0
"""For one update."""
TEST_EXAMPLES = 256
"""Evaluations see no more, else they would take longer than the updates."""


def fits_smoke(spec: RunSpec, device_kind: str) -> bool:
    """Returns whether an update is predicted to fit 4 GiB and two seconds."""
    estimate = cost.estimate(spec, device_kind=device_kind)
    memory = estimate.memory_mib or 0.0
    seconds = (estimate.buckets.train if estimate.buckets else 0.0) / spec.updates  # evaluations cost the same at any batch size
    return memory <= MAXIMUM_MEMORY_MIB and seconds <= MAXIMUM_SECONDS


def smoke_suite(suite: Suite, device_kind: str, fits: Callable[[RunSpec, str], bool] = fits_smoke) -> tuple[Suite, tuple[str, ...]]:
    """Returns the suite of `--smoke`, named `<suite>.smoke`, and in words what was made smaller.

    Every distinct program trains three updates, small enough to see in seconds that all of it works.
    Batch and ghost sizes are divided by the same power of two until an update fits.
    """
    name = f"{suite.name}.smoke"
    chosen: dict[object, PlannedRun] = {}
    notes: list[str] = []
    for planned in suite.runs:
        short = _shortened(planned.spec)
        key = program_key(short)
        if key in chosen:
            continue
        small = short
        while not fits(small, device_kind) and _can_halve(small):
            small = _halved(small)
        labels = planned.labels.model_copy(update={"suite": name})
        chosen[key] = PlannedRun(run_id=run_id(small), spec=small, labels=labels)
        if small.batch_size < short.batch_size:
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


def _can_halve(spec: RunSpec) -> bool:
    """Batch norm needs two examples in every group."""
    rule = spec.adaptive_batch
    sizes = list(spec.batches.sizes if spec.batches.grows else (spec.batch_size,))
    sizes += [spec.ghost_batch_size] if spec.ghost_batch_size is not None else []
    sizes += [rule.smallest, rule.largest] if rule is not None else []
    return all(size % 2 == 0 and size >= 4 for size in sizes) and (rule is None or rule.unit % 2 == 0)


def _halved(spec: RunSpec) -> RunSpec:
    ghost, rule = spec.ghost_batch_size, spec.adaptive_batch
    if rule is not None:
        sizes = {name: getattr(rule, name) // 2 for name in ("smallest", "largest", "unit")}
        rule = rule.model_copy(update={**sizes, "exchange_rate": rule.exchange_rate / 2})
    halves = {"batch_size": spec.batch_size // 2, "ghost_batch_size": None if ghost is None else ghost // 2, "adaptive_batch": rule}
    return spec.model_copy(update=halves)
