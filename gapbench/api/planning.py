"""Planning: what is asked of a suite, what it would train, and what that would take. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from gapbench.api.keeping import as_html
from gapbench.api.place import HERE, Place, Where
from gapbench.core.errors import GapbenchError
from gapbench.core.events import FINAL, Outcome
from gapbench.execution import (
    Job,
    Layout,
    Pending,
    Predictions,
    Price,
    PricedJob,
    Settings,
    choose_devices,
    find_pending,
    place_of,
    plan_layout,
    price,
)
from gapbench.sizing import recomputes
from gapbench.store import ResultsDirectory
from gapbench.suite import DroppedRun, Suite, load_suite
from gapbench.suite.batches import bounds_of_updates
from gapbench.suite.runspec import PlannedRun, RunSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Work:
    """Runs at a place: where they are kept, how they are spread over its machine, and what is left of them to train."""

    directory: ResultsDirectory
    """It need not exist."""
    specs: Mapping[str, RunSpec]
    """Of the whole plan by id: it decides how runs are stacked and placed, whichever of them train."""
    how: Settings

    @cached_property
    def layout(self) -> Layout:
        """How the whole plan is spread over the machine."""
        return plan_layout(self.specs, self.how.devices, self.how.slots)

    @cached_property
    def predictions(self) -> Predictions:
        """What its jobs take there."""
        return Predictions(place_of(self.layout.slots))

    def left(self, selected: Iterable[str], again: Collection[Outcome] = ()) -> list[str]:
        """Returns those of the selected runs that have no outcome, or one of those that are trained again."""
        return [run_id for run_id in selected if (done := self.directory.run(run_id).outcome()) is None or done.outcome in again]

    def price(self, selected: Collection[str], again: Collection[Outcome] = ()) -> Price:
        """Returns what is left to train: interrupted jobs from their checkpoints on, and all else from the beginning.

        Args:
            selected: ids of the runs that are asked for.
            again: outcomes that are trained again.
        """
        pending = find_pending(self.directory, self.layout.jobs, selected)
        begun = [item for item in pending if item.checkpoint is not None]
        fresh = {run_id for item in pending if item.checkpoint is None for run_id in item.job.run_ids}
        fresh |= {run_id for run_id in selected if (done := self.directory.run(run_id).outcome()) is not None and done.outcome in again}
        anew = [Pending(part) for job in self.layout.jobs if (part := job.part(fresh))]
        return price([*begun, *anew], self.layout.slots, self.predictions)


@dataclass(frozen=True)
class Selection:
    """A loaded suite, and what of it is asked for."""

    whole: Suite
    chosen: Suite
    """The same without the runs that `only` leaves out."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Ids of the selected runs, each once."""
        return tuple(dict.fromkeys(planned.run_id for planned in self.chosen.runs))

    def at(self, place: Place, *, fail_fast: bool = False, command: str = "") -> Work:
        """Returns the runs of the whole suite at a place.

        Raises:
            DeviceError: a device does not exist.
        """
        directory = ResultsDirectory(Path(place.results) / self.whole.name, self.whole.name)
        specs: dict[str, RunSpec] = {}
        for planned in self.whole.runs:
            specs.setdefault(planned.run_id, planned.spec)
        return Work(directory, specs, settings_of(self.whole, place, fail_fast=fail_fast, command=command))


def select(suite: str | Path, place: Place, *, settings: Mapping[str, str] | None, only: str | None) -> Selection:
    """Loads a suite.

    Raises:
        GapbenchError: the suite or a plugin is wrong.
    """
    whole = load_suite(suite, settings=settings, plugins=place.plugin_files)
    chosen = load_suite(suite, settings=settings, only=only, plugins=place.plugin_files) if only else whole
    return Selection(whole, chosen)


def settings_of(suite: Suite, place: Place, *, fail_fast: bool = False, command: str = "") -> Settings:
    """Returns what training a suite at a place needs.

    Raises:
        DeviceError: a device does not exist.
    """
    return Settings(
        devices=choose_devices(place.devices),
        slots=place.slots,
        data_dir=place.data_folder,
        offline=place.offline,
        suite_dir=suite.path.parent,
        plugins=place.plugin_files,
        fail_fast=fail_fast,
        command=command,
    )


def titles(named: Mapping[str, tuple[str, str]]) -> Callable[[Job], str]:
    """Returns what names a job for people: a run by its cell and what tells it from others there, a stack by its cells and its size.

    Args:
        named: by id of the run, its cell and what follows the cell in its name, such as " seed 3".
    """

    def title(job: Job) -> str:
        cells = ", ".join(dict.fromkeys(named[run_id][0] for run_id in job.run_ids))
        return f"{cells} × {job.replicas}" if job.replicas > 1 else f"{cells}{named[job.run_ids[0]][1]}"

    return title


class TooLongError(GapbenchError):
    """The prediction is longer than `--max-device-hours` allows."""


def check_hours(priced: Sequence[PricedJob], limit: float, cells: Mapping[str, str]) -> list[str]:
    """Returns what is to be said about a limit of device hours.

    Args:
        priced: what is left to train.
        limit: in hours.
        cells: the cell of every run, by id.

    Raises:
        TooLongError: they are predicted to take longer.
        GapbenchError: the limit is no number of at least 0.
    """
    known = sum(item.seconds for item in priced if item.seconds is not None)
    if exceeds(known, limit):
        raise TooLongError(
            f"training is predicted to take {hours(known)} device hours ({_dearest(priced, cells)}), more than --max-device-hours "
            f"{limit:g}; train less (fewer arms or seeds with --only, fewer epochs with --set epochs=...) or raise the limit; "
            "`gapbench plan` shows the time of every cell"
        )
    unknown = sum(item.seconds is None for item in priced)
    return [f"{unknown} of {len(priced)} jobs cannot be predicted; --max-device-hours does not count their time"] if unknown else []


def exceeds(seconds: float, limit: float) -> bool:
    """Returns whether device seconds are more than a limit in hours. Raises GapbenchError where that is no number of at least 0."""
    if not limit >= 0.0:
        raise GapbenchError(f"--max-device-hours must be a number of at least 0, not {limit:g}")
    return seconds > limit * 3600.0


def hours(seconds: float) -> str:
    """Returns seconds as hours, with two digits that mean something: "12.50", "0.0042"."""
    value = seconds / 3600.0
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _dearest(priced: Sequence[PricedJob], cells: Mapping[str, str]) -> str:
    """Returns the hours of the cells that take longest."""
    seconds: dict[str, float] = {}
    for item in priced:
        for run_id in item.pending.job.run_ids if item.seconds is not None else ():
            seconds[cells[run_id]] = seconds.get(cells[run_id], 0.0) + (item.seconds or 0.0) / item.pending.job.replicas
    ranked = sorted(seconds, key=lambda cell: -seconds[cell])
    parts = [f"{cell} {hours(seconds[cell])}" for cell in ranked[:3]]
    rest = sum(seconds[cell] for cell in ranked[3:])
    return ", ".join([*parts, *([f"others {hours(rest)}"] if rest else [])])


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a plan: runs that differ in their seed only."""

    cell: str
    runs: int
    done: int
    """Of them, those that have an outcome already."""
    spec: RunSpec
    """Of its first run."""
    regime: str
    parameters: int | None
    memory_mib: float | None
    """Of one job that its runs train in; None: not known."""
    seconds: float | None
    """Predicted, of all its runs together, by one slot; None: not known."""
    recomputed: bool
    """Whether blocks of its network pass forward twice, since its batch cannot be cut and would keep too much."""
    basis: str
    """What the prediction rests on: measured (jobs of this machine), calibrated (a short measurement here), rough, unknown."""


@dataclass(frozen=True)
class Plan:
    """What a suite would train here."""

    suite: Suite
    results: Path
    cells: tuple[PlannedCell, ...]
    runs: int
    """Distinct runs: labels that mean the same run count once."""
    done: int
    jobs: int
    """What those that are left train in: single runs and stacks."""
    slots: int
    threads: int
    devices: tuple[str, ...]
    device_seconds: float
    """Predicted, of everything that is left to train, as far as it can be predicted."""
    wall_seconds: float
    """By the clock: the jobs played through over the slots, the start of the workers included."""
    unknown: int
    """Jobs whose time cannot be predicted."""

    @property
    def dropped(self) -> tuple[DroppedRun, ...]:
        """What the suite excludes, with reasons."""
        return self.suite.dropped

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the comparison less than it looks."""
        return self.suite.warnings

    def frame(self) -> pd.DataFrame:
        """Returns one row a cell: what it trains, and memory (MiB) and time (seconds, all its runs by one slot) as predicted."""
        import pandas as pd

        rows = [
            {
                "cell": cell.cell,
                "runs": cell.runs,
                "done": cell.done,
                "batch_size": cell.spec.batch_size,
                "largest_batch_size": cell.spec.batches.largest,
                "batches_per_epoch": cell.spec.train_examples / cell.spec.batch_size,
                "ghost_batch_size": cell.spec.ghost_batch_size,
                "regime": cell.regime,
                "learning_rate": cell.spec.learning_rate,
                "updates": cell.spec.updates,
                **dict(zip(("fewest_updates", "most_updates"), bounds_of_updates(cell.spec), strict=True)),
                "examples": cell.spec.examples,
                "epochs": cell.spec.examples / cell.spec.train_examples,
                "parameters": cell.parameters,
                "memory_mib": cell.memory_mib,
                "seconds": cell.seconds,
                "basis": cell.basis,
            }
            for cell in self.cells
        ]
        frame = pd.DataFrame(rows)
        return frame.astype({"ghost_batch_size": "Int64", "parameters": "Int64"}) if rows else frame

    def __repr__(self) -> str:
        left = f"{self.runs - self.done} of {self.runs} runs left"
        return f"Plan({self.suite.name!r}: {left}, {self.device_seconds:.0f} device seconds predicted, {len(self.warnings)} warnings)"

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.frame(), [f"warning: {warning}" for warning in self.warnings])


def plan(
    suite: str | Path,
    place: Place = HERE,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    **where: Unpack[Where],
) -> Plan:
    """Returns what a suite would train on this machine, and what that would take. Loads no data and writes nothing.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        place: what it would train on, and the results that show what is done already.
        settings: TOML values by key.
        only: plans only what matches, such as "arm=LB,seed=0".
        where: fields of the place, for this call, such as devices="cpu".

    Raises:
        GapbenchError: the suite is wrong, or a device does not exist.
    """
    place = place.but(**where)
    selection = select(suite, place, settings=settings, only=only)
    work = selection.at(place)
    done = {run_id for run_id in selection.run_ids if work.directory.run(run_id).state() in FINAL}
    job_of = {run_id: job for job in work.layout.jobs for run_id in job.run_ids}
    priced = work.price(selection.run_ids)
    kind = work.how.devices[0].kind
    return Plan(
        suite=selection.chosen,
        results=work.directory.path,
        cells=tuple(_cell(members, done, job_of, work.predictions, kind) for members in by_cell(selection.chosen.runs).values()),
        runs=len(selection.run_ids),
        done=len(done),
        jobs=len(priced.jobs),
        slots=len(work.layout.slots),
        threads=work.layout.slots[0].threads,
        devices=tuple(device.name for device in work.how.devices),
        device_seconds=priced.device_seconds,
        wall_seconds=priced.wall_seconds,
        unknown=priced.unknown,
    )


def by_cell(runs: Sequence[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """Returns the runs of every cell, cells in table order."""
    cells: dict[str, list[PlannedRun]] = {}
    for planned in sorted(runs, key=lambda planned: planned.labels.cell_order):
        cells.setdefault(planned.labels.cell, []).append(planned)
    return cells


def _cell(
    members: Sequence[PlannedRun], done: set[str], job_of: Mapping[str, Job], predictions: Predictions, device_kind: str
) -> PlannedCell:
    first = members[0]
    estimate = predictions.of(job_of[first.run_id])
    jobs = [job_of[run_id] for run_id in dict.fromkeys(member.run_id for member in members)]
    times = [seconds / job.replicas for job in jobs if (seconds := predictions.of(job).seconds) is not None]
    return PlannedCell(
        cell=first.labels.cell,
        runs=len(members),
        done=sum(member.run_id in done for member in members),
        spec=first.spec,
        regime=first.labels.regime,
        parameters=estimate.parameters,
        memory_mib=estimate.memory_mib,
        recomputed=recomputes(first.spec, device_kind),
        seconds=sum(times) if len(times) == len(jobs) else None,
        basis=estimate.basis,
    )
