"""Tuning a suite: rounds of trials, each decided from the stored outcomes of those before, then a new suite with what was found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from gapbench.api.keeping import as_html, to_frame
from gapbench.api.place import HERE, Place, Where
from gapbench.api.planning import TooLongError, Work, exceeds, hours, settings_of, titles
from gapbench.api.reporting import figures
from gapbench.api.running import changed_plugins, check_data, kept_predictions, retire
from gapbench.api.state import FailedRun, failed_runs
from gapbench.catalog.plugins import check_reachable
from gapbench.core.events import RETRIED, Outcome
from gapbench.execution import Job, Observer, Price, Said, Settings, execute, ignore
from gapbench.report.figures import Figures
from gapbench.report.tuning import TuningFiles, write_tuning_report
from gapbench.store import Prediction, ResultsDirectory, StoredPlan, build_tables
from gapbench.suite import shipped_suites
from gapbench.suite.runspec import RunSpec, used_components
from gapbench.suite.tunable import load_tunable
from gapbench.tuning import KEY, CellResult, Round, Search, Trial, Trials, Tuned, check_writable, specs_of, tuned_name, write_tuned_suite

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PlannedSpace:
    """What would be tried for one cell, or for several that only differ in what is searched."""

    title: str
    batch_size: int
    lowest: float
    """Learning rate of the first grid."""
    highest: float
    points: int
    """Of the first grid."""
    runs: int
    """Of the first grid: points times seeds times folds."""
    updates: int
    train_examples: int
    held_out: int


@dataclass(frozen=True)
class TuningPlan:
    """What tuning a suite would train here."""

    suite: str
    results: Path
    output: Path
    """The suite file that it would write."""
    cells: tuple[PlannedSpace, ...]
    folds: int
    round: str
    """The round that comes next; empty where the search is complete."""
    runs: int
    """That the round has left to train."""
    runs_at_most: int
    """Of this and all later rounds, if every extension is needed."""
    device_seconds: float
    """Predicted for the round."""
    device_seconds_at_most: float
    wall_seconds_at_most: float
    unknown: int
    """Jobs whose time cannot be predicted."""
    devices: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Returns one row a cell."""
        return to_frame(self.cells)

    def __repr__(self) -> str:
        return f"TuningPlan({self.suite!r}: {self.runs} runs in the next round, at most {self.runs_at_most} in all)"

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.frame())


@dataclass(frozen=True)
class TuningWork:
    """A search with its place on disk and on this machine."""

    trials: Trials
    directory: ResultsDirectory
    output: Path
    how: Settings

    @classmethod
    def of(
        cls, suite: str | Path, place: Place, settings: Mapping[str, str] | None, output: str | Path | None, command: str = ""
    ) -> TuningWork:
        """Returns the search of a suite; the arguments are those of `tune`."""
        tunable = load_tunable(suite, settings=settings, plugins=place.plugin_files)
        trials = Trials(tunable)
        how = settings_of(tunable.suite, place, command=command)
        directory = ResultsDirectory(Path(place.results) / trials.name, trials.name)
        ResultsDirectory.check(directory.path, trials.name)
        written = Path(output).expanduser() if output else _default_output(tunable.suite.path, tunable.suite.name)
        return cls(trials, directory, written, how)

    def search(self) -> Search:
        """Returns how far the search is, from the outcomes on disk."""

        def outcome(run_id: str) -> tuple[str, float, float] | None:
            found = self.directory.run(run_id).outcome()
            if found is None:
                return None
            numbers = found.summary if found.outcome is Outcome.OK else {}
            score, loss = (float(numbers.get(name, 0.0)) for name in (self.trials.metric.column("validation"), "validation_loss"))
            return found.outcome.value, score, loss

        return self.trials.replay(outcome)

    def specs_so_far(self) -> dict[str, RunSpec]:
        """Returns the runs of every round until now by id."""
        return specs_of([trial for tried in self.search().rounds for trial in self.trials.of_round(tried)])

    def every_spec(self) -> list[RunSpec]:
        """Returns the specs of the first grid: those of later rounds differ from them in what is searched only."""
        return list(specs_of(self.trials.of_round(self.search().rounds[0])).values())

    def price_of(self, tried: Round, again: Collection[Outcome] = ()) -> Price:
        """Returns what a round would take from where it is."""
        specs = specs_of(self.trials.of_round(tried))
        return Work(self.directory, specs, self.how).price(specs, again)

    def plan(self, again: Collection[Outcome] = ()) -> TuningPlan:
        """Returns what is left."""
        search = self.search()
        following = [] if search.complete else [search.rounds[-1], *self.trials.at_most_after(search)]
        every = [self.price_of(tried, again) for tried in following]
        runs = [sum(job.pending.job.replicas for job in one.jobs) for one in every]
        return TuningPlan(
            suite=self.trials.tunable.suite.name,
            results=self.directory.path,
            output=self.output,
            cells=tuple(self._planned(title) for title in self.trials.spaces),
            folds=self.trials.folds,
            round=following[0].name if following else "",
            runs=runs[0] if runs else 0,
            runs_at_most=sum(runs),
            device_seconds=every[0].device_seconds if every else 0.0,
            device_seconds_at_most=sum(one.device_seconds for one in every),
            wall_seconds_at_most=sum(one.wall_seconds for one in every),
            unknown=sum(one.unknown for one in every),
            devices=tuple(device.name for device in self.how.devices),
        )

    def _planned(self, title: str) -> PlannedSpace:
        space = self.trials.spaces[title]
        grid = self.trials.rules.grid(space.centre)
        points = grid.points(self.trials.rules.others)
        runs = [trial for point in points for trial in self.trials.of_point(title, point, "trial")]
        spec = runs[0].spec
        return PlannedSpace(
            title=title,
            batch_size=spec.batch_size,
            lowest=self.trials.rate(space, grid.low),
            highest=self.trials.rate(space, grid.high),
            points=len(points),
            runs=len(runs),
            updates=spec.updates,
            train_examples=spec.train_examples,
            held_out=self.trials.held_out(space),
        )


def check_hours(plan: TuningPlan, limit: float) -> None:
    """Raises TooLongError where tuning may take more than `limit` hours, every extension counted."""
    if exceeds(plan.device_seconds_at_most, limit):
        raise TooLongError(
            f"tuning is predicted to take up to {hours(plan.device_seconds_at_most)} device hours ({hours(plan.device_seconds)} of them "
            f"the {plan.round}), more than --max-device-hours {limit:g}; give [tune] fewer trials, folds or seeds, or a smaller "
            "extend_at_most, train for fewer epochs, or raise the limit"
        )


def _default_output(suite: Path, name: str) -> Path:
    """Returns a file beside the suite, or here where the suite came with gapbench."""
    shipped = {path.resolve() for path in shipped_suites().values()}
    folder = Path() if suite.resolve() in shipped else suite.parent
    return folder / f"{tuned_name(name)}.toml"


@dataclass(frozen=True)
class TuneReport:
    """What `tune` came to."""

    results: Path
    """The directory of the trials."""
    interrupted: bool
    files: TuningFiles | None
    """Tables and figure; None after an interruption."""
    suite_file: Path | None
    """The tuned suite; None where the search did not come to its end, or some cell has no eligible point."""
    failed: tuple[FailedRun, ...] = ()

    @property
    def tuned(self) -> Tuned | None:
        """What was found."""
        return None if self.files is None else self.files.tuned

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """What was found, cell by cell."""
        return () if self.tuned is None else self.tuned.cells

    @property
    def exit_status(self) -> int:
        """0 the tuned suite is written, 1 it is not, 130 interrupted."""
        return 130 if self.interrupted else 0 if self.suite_file else 1

    def figures(self) -> Figures:
        """Returns the figure of learning rates as matplotlib figure, by name."""
        return figures(self.results)

    def __repr__(self) -> str:
        return f"TuneReport({str(self.results)!r}: {self.tuned!r}, suite file {self.suite_file})"

    def _repr_html_(self) -> str:
        return "" if self.tuned is None else self.tuned._repr_html_()


def tune(
    suite: str | Path,
    place: Place = HERE,
    *,
    settings: Mapping[str, str] | None = None,
    output: str | Path | None = None,
    retry: bool = False,
    max_device_hours: float | None = None,
    announce: Callable[[TuningPlan], None] | None = None,
    observe: Observer = ignore,
    command: str = "",
    **where: Unpack[Where],
) -> TuneReport:
    """Searches what [tune] names for every cell of a suite, on a held-out part of the training set, and writes the tuned suite.

    Every cell gets as many trials as any other, so there is no way to tune only some. Interrupting is safe: calling it again decides
    the same from the outcomes that are there, and goes on.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        place: where data are and what trains; its results are the parent of the directory of trials, `<suite>.tune`.
        settings: TOML values by key, such as {"epochs": "1"}.
        output: the file to write; default: `<suite>-tuned.toml` beside the suite, or here for a shipped one.
        retry: trains crashed, timed-out and out-of-memory trials again.
        max_device_hours: refuses to train where the prediction is longer, every extension counted.
        announce: receives what is left to train, and what that takes, once nothing is wrong and before anything trains.
        observe: receives notices while it trains.
        command: what `gapbench status` tells others to call to go on.
        where: fields of the place, for this call, such as devices="cpu".

    Raises:
        GapbenchError: anything that can be known before training is wrong, such as a file that would be written over.
    """
    place = place.but(**where)
    work = TuningWork.of(suite, place, settings, output, command)
    check_writable(work.output)
    check_reachable(used_components(work.every_spec()), work.how.plugins)
    plan = work.plan(RETRIED if retry else ())
    if max_device_hours is not None:
        check_hours(plan, max_device_hours)
    check_data(work.every_spec(), place, work.trials.tunable.suite)
    for note in changed_plugins(work.directory, work.specs_so_far()):
        observe(Said(note))
    if announce is not None:
        announce(plan)
    with ResultsDirectory.create(work.directory.path, work.trials.name) as directory:
        if retry:
            retire(directory, work.specs_so_far(), RETRIED)
        return _Tuning(replace(work, directory=directory), work.directory.path, observe).finish()


def plan_tuning(
    suite: str | Path,
    place: Place = HERE,
    *,
    settings: Mapping[str, str] | None = None,
    output: str | Path | None = None,
    **where: Unpack[Where],
) -> TuningPlan:
    """Returns what tuning a suite would train on this machine from where it is, and at most. Loads no data and writes nothing.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        place: what would train, and the results that show how far the search is.
        settings: TOML values by key.
        output: the file that would be written.
        where: fields of the place, for this call, such as devices="cpu".

    Raises:
        GapbenchError: the suite is wrong or cannot be tuned, or a device does not exist.
    """
    return TuningWork.of(suite, place.but(**where), settings, output).plan()


@dataclass(frozen=True)
class _Tuning:
    """A search that trains, under the lock of its directory."""

    work: TuningWork
    """With the directory that is locked."""
    results: Path
    """The same directory, as the user named it."""
    observe: Observer

    def finish(self) -> TuneReport:
        """Trains round after round until nothing follows, then writes tables, figure and suite."""
        trials, directory = self.work.trials, self.work.directory
        while True:
            search = self.work.search()
            tried = search.rounds[-1]
            self._write_plan(search)
            if search.complete:
                break
            specs = specs_of(trials.of_round(tried))
            points = " or ".join(map(str, sorted({len(points) for points in tried.points.values()})))
            self.observe(Said(f"round {len(search.rounds)}, {tried.name}: {points} points a cell, {len(specs):,} runs"))
            done = execute(directory, specs, list(specs), self.work.how, titles=_titles(trials.of_round(tried)), observe=self.observe)
            if done.interrupted:
                build_tables(directory)
                return TuneReport(self.results, interrupted=True, files=None, suite_file=None, failed=self._failed(specs))
            # Nothing is decided where a trial crashed: that says nothing about its learning rate.
            if any(directory.run(run_id).state() not in (Outcome.OK, Outcome.DIVERGED) for run_id in specs):
                break
        build_tables(directory)
        files = write_tuning_report(self.results)
        written = None
        if files.tuned.found:
            write_tuned_suite(trials, files.tuned, self.work.output, plugins=self.work.how.plugins)
            written = self.work.output
        failed = self._failed(self.work.specs_so_far())
        return TuneReport(self.results, interrupted=False, files=files, suite_file=written, failed=failed)

    def _write_plan(self, search: Search) -> None:
        """Stores every round so far: tables hold the whole search."""
        trials = self.work.trials
        new = {} if search.complete else self.work.price_of(search.rounds[-1]).of_runs()
        predictions = {**{run_id: Prediction(*found) for run_id, found in new.items()}, **kept_predictions(self.work.directory)}
        plan = StoredPlan(trials.name, trials.planned(search.rounds), {KEY: trials.metadata(search.rounds)}, predictions)
        text = f"# The trials of `gapbench tune` for this suite are here.\n{trials.tunable.suite.resolved_toml()}"
        self.work.directory.write_plan(plan, text)

    def _failed(self, specs: Mapping[str, RunSpec]) -> tuple[FailedRun, ...]:
        directory, planned = self.work.directory, self.work.trials.planned(self.work.search().rounds)
        return failed_runs(directory, planned, {run_id for run_id in specs if directory.run(run_id).state() is not Outcome.DIVERGED})


def _titles(trials: Iterable[Trial]) -> Callable[[Job], str]:
    return titles({trial.run_id: (trial.title, _of_cell(trial.spec)) for trial in trials})


def _of_cell(spec: RunSpec) -> str:
    fold = f" fold {spec.fold + 1}" if spec.fold else ""
    return f", rate {spec.learning_rate:g} seed {spec.seed}{fold}"
