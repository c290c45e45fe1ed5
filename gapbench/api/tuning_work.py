"""What tuning a suite would try and take, on this machine and from where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.api.frames import as_html
from gapbench.api.price import TooLongError, hours, pending_jobs
from gapbench.core.errors import GapbenchError
from gapbench.core.outcome import Outcome
from gapbench.core.paths import data_dir_default
from gapbench.execution import Foreseen, Settings, choose_devices, foresee, plan_layout
from gapbench.store import ResultsDirectory
from gapbench.suite import shipped_suites
from gapbench.suite.runspec import RunSpec
from gapbench.suite.tunable import load_tunable
from gapbench.tuning import Round, Search, Trials, specs_of, tuned_name

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
        import pandas as pd

        return pd.DataFrame([vars(cell) for cell in self.cells])

    def __repr__(self) -> str:
        return f"TuningPlan({self.suite!r}: {self.runs} runs in the next round, at most {self.runs_at_most} in all)"

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.frame())


@dataclass(frozen=True)
class Work:
    """A search with its place on disk and on this machine."""

    trials: Trials
    path: Path
    output: Path
    how: Settings

    @classmethod
    def of(
        cls,
        suite: str | Path,
        settings: Mapping[str, str] | None,
        output: str | Path | None,
        devices: str | None,
        slots: int | None,
        results: str | Path,
        data_dir: str | Path | None,
        offline: bool,
        plugins: Iterable[str | Path],
        command: str,
    ) -> Work:
        """Returns the search of a suite; the arguments are those of `tune`."""
        files = tuple(str(Path(plugin).expanduser().absolute()) for plugin in plugins)
        tunable = load_tunable(suite, settings=settings, plugins=files)
        trials = Trials(tunable)
        how = Settings(
            devices=choose_devices(devices),
            slots=slots,
            data_dir=Path(data_dir).expanduser() if data_dir else data_dir_default(),
            offline=offline,
            suite_dir=tunable.suite.path.parent,
            plugins=files,
            command=command,
        )
        path = Path(results) / trials.name
        ResultsDirectory.check(path, trials.name)
        return cls(trials, path, Path(output).expanduser() if output else _default_output(tunable.suite.path, tunable.suite.name), how)

    def search(self) -> Search:
        """Returns how far the search is, from the outcomes on disk."""
        directory = ResultsDirectory(self.path, self.trials.name)

        def outcome(run_id: str) -> tuple[str, float, float] | None:
            found = directory.run(run_id).outcome()
            if found is None:
                return None
            numbers = found.summary if found.outcome is Outcome.OK else {}
            return found.outcome.value, float(numbers.get("validation_accuracy", 0.0)), float(numbers.get("validation_loss", 0.0))

        return self.trials.replay(outcome)

    def every_spec(self) -> list[RunSpec]:
        """Returns the specs of the first grid: those of later rounds differ from them in what is searched only."""
        return list(specs_of(self.trials.of_round(self.search().rounds[0])).values())

    def foreseen(self, tried: Round, again: Iterable[Outcome] = ()) -> Foreseen:
        """Returns what a round would take from where it is."""
        specs = specs_of(self.trials.of_round(tried))
        layout = plan_layout(specs, self.how.devices, self.how.slots)
        pending = pending_jobs(ResultsDirectory(self.path, self.trials.name), layout.jobs, specs, frozenset(again))
        return foresee(pending, layout.slots)

    def plan(self, again: Iterable[Outcome] = ()) -> TuningPlan:
        """Returns what is left."""
        search = self.search()
        following = [] if search.complete else [search.rounds[-1], *self.trials.at_most_after(search)]
        every = [self.foreseen(tried, again) for tried in following]
        runs = [sum(job.pending.job.replicas for job in one.jobs) for one in every]
        return TuningPlan(
            suite=self.trials.tunable.suite.name,
            results=self.path,
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
    if not limit >= 0.0:
        raise GapbenchError(f"--max-device-hours must be a number of at least 0, not {limit:g}")
    if plan.device_seconds_at_most > limit * 3600.0:
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
