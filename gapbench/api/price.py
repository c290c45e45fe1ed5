"""The price of a suite: what is left to train, job by job, in predicted device seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gapbench.core.errors import GapbenchError
from gapbench.core.outcome import Outcome
from gapbench.execution import ForeseenJob, Job, Pending, find_pending
from gapbench.store import ResultsDirectory


class TooLongError(GapbenchError):
    """The prediction is longer than `--max-device-hours` allows."""


def pending_jobs(
    directory: ResultsDirectory, jobs: Sequence[Job], selected: Collection[str], again: Collection[Outcome] = ()
) -> list[Pending]:
    """Returns what would train: interrupted jobs from their checkpoints on, and all else from the beginning.

    Args:
        directory: says what is done; it need not exist.
        jobs: of the whole plan.
        selected: ids of the runs that are asked for.
        again: outcomes that are trained again.
    """
    pending = find_pending(directory, jobs, selected)
    done = {run_id: outcome.outcome for run_id in selected if (outcome := directory.run(run_id).outcome()) is not None}
    begun = [item for item in pending if item.checkpoint is not None]
    fresh = {run_id for item in pending if item.checkpoint is None for run_id in item.job.run_ids}
    fresh |= {run_id for run_id, outcome in done.items() if outcome in again}
    return [*begun, *(Pending(part, None, 0) for job in jobs if (part := job.part(fresh.__contains__)))]


def check_hours(priced: Sequence[ForeseenJob], limit: float, cells: Mapping[str, str]) -> list[str]:
    """Returns what is to be said about a limit of device hours.

    Args:
        priced: what is left to train.
        limit: in hours.
        cells: the cell of every run, by id.

    Raises:
        TooLongError: they are predicted to take longer.
        GapbenchError: the limit is no number of at least 0.
    """
    if not limit >= 0.0:
        raise GapbenchError(f"--max-device-hours must be a number of at least 0, not {limit:g}")
    known = sum(item.seconds for item in priced if item.seconds is not None)
    if known > limit * 3600.0:
        raise TooLongError(
            f"training is predicted to take {hours(known)} device hours ({_dearest(priced, cells)}), more than --max-device-hours "
            f"{limit:g}; train less (fewer arms or seeds with --only, fewer epochs with --set epochs=...) or raise the limit; "
            "`gapbench plan` shows the time of every cell"
        )
    unknown = sum(item.seconds is None for item in priced)
    return [f"{unknown} of {len(priced)} jobs cannot be predicted; --max-device-hours does not count their time"] if unknown else []


def hours(seconds: float) -> str:
    """Returns seconds as hours, with two digits that mean something: "12.50", "0.0042"."""
    value = seconds / 3600.0
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _dearest(priced: Sequence[ForeseenJob], cells: Mapping[str, str]) -> str:
    """Returns the hours of the cells that take longest."""
    seconds: dict[str, float] = {}
    for item in priced:
        for run_id in item.pending.job.run_ids if item.seconds is not None else ():
            seconds[cells[run_id]] = seconds.get(cells[run_id], 0.0) + (item.seconds or 0.0) / item.pending.job.replicas
    ranked = sorted(seconds, key=lambda cell: -seconds[cell])
    parts = [f"{cell} {hours(seconds[cell])}" for cell in ranked[:3]]
    rest = sum(seconds[cell] for cell in ranked[3:])
    return ", ".join([*parts, *([f"others {hours(rest)}"] if rest else [])])
