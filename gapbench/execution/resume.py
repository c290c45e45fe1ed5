"""What is left to do: planned jobs without those runs that have an outcome, and interrupted stacks just as they were."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gapbench.execution.jobs import Job, Predictions
from gapbench.store import ResultsDirectory
from gapbench.suite.runspec import RunSpec


@dataclass(frozen=True)
class Pending:
    """A job to train, and where it goes on from."""

    job: Job
    checkpoint: str | None
    """Id of the run whose folder holds the checkpoint with its slices."""
    update: int
    """Done, according to that checkpoint."""

    @property
    def share_left(self) -> float:
        """Fraction of its updates that is still to do."""
        return max(0.0, 1.0 - self.update / self.job.specs[0].updates)  # a batch that follows the noise scale may make more updates

    def singles(self) -> list[Pending]:
        """Returns its runs as jobs of their own; their slices stay where they are."""
        return [Pending(single, self.checkpoint, self.update) for single in self.job.singles()]


def find_pending(results: ResultsDirectory, jobs: Sequence[Job], selected: Collection[str]) -> list[Pending]:
    """Returns the jobs to train.

    An interrupted stack goes on as it was, also where the plan has grown since; of a stack, all unfinished runs that are still
    planned go on together, also where only some of them are selected. Everything else trains in the jobs of the plan.

    Args:
        results: says which runs have an outcome or a checkpoint.
        jobs: of the whole plan.
        selected: ids of the runs that are asked for.
    """
    specs: dict[str, RunSpec] = {run_id: spec for job in jobs for run_id, spec in zip(job.run_ids, job.specs, strict=True)}
    open_ids = [run_id for run_id in specs if results.run(run_id).outcome() is None]
    found: list[Pending] = []
    resumed: set[str] = set()
    for run_id in open_ids:
        header = results.run(run_id).checkpoint()
        if header is None:
            continue
        members = [member for member in header.stack if member in specs and member in open_ids and member not in resumed]
        if members and any(member in selected for member in members):
            job = Job(tuple(members), tuple(specs[member] for member in members))
            found.append(Pending(job, run_id, header.update))
            resumed.update(members)
    fresh = {run_id for run_id in open_ids if run_id in selected and run_id not in resumed}
    parts = (job.part(fresh.__contains__) for job in jobs)
    return [*found, *(Pending(part, None, 0) for part in parts if part is not None)]


def in_order(pending: Sequence[Pending], predictions: Predictions) -> list[Pending]:
    """Returns jobs in the order in which slots take them: what has begun, then the longest first, so that no slot idles at the end.

    What has begun comes first so that repeated interruptions do not leave ever more runs half done.
    """
    return sorted(pending, key=lambda item: (item.update == 0, -(predictions.of(item.job).seconds or 0.0) * item.share_left))
