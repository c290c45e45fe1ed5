"""What the cost model expects of the jobs to train, as weights of the progress bar and as the start of the forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from gapbench import cost
from gapbench.execution.jobs import Job, predict, predicted_seconds
from gapbench.execution.notices import ExpectedJob
from gapbench.execution.resume import Pending
from gapbench.sizing import program_key


def expected_jobs(
    pending: Sequence[Pending], place: cost.Place, done: Iterable[Job] = (), *, width: Callable[[Job], int] = lambda _job: 1
) -> tuple[tuple[ExpectedJob, ...], float, Literal["measured", "rough", "unknown"]]:
    """Returns the expectation of every pending job, the seconds predicted for the jobs that are done, and what all of it rests on.

    A job whose time cannot be predicted, such as one of a plugin's model, is weighed by its examples: by the predicted time per
    example of the others, or, where there are none, by one second a million, which is a weight and no prediction.
    """
    estimates = [predict(item.job, place) for item in pending]
    known = [(estimate.seconds, _examples(item.job)) for estimate, item in zip(estimates, pending, strict=True) if estimate.seconds]
    per_example = sum(seconds for seconds, _ in known) / sum(examples for _, examples in known) if known else 1e-6
    programs: dict[object, int] = {}
    jobs = []
    for estimate, item in zip(estimates, pending, strict=True):
        key = (program_key(item.job.specs[0]), item.job.replicas)
        seconds = estimate.seconds or per_example * _examples(item.job)
        program = programs.setdefault(key, len(programs))
        jobs.append(ExpectedJob(item.job.run_ids, seconds, item.share_left, program, width(item.job)))
    bases = {estimate.basis if estimate.seconds else "unknown" for estimate in estimates}
    basis: Literal["measured", "rough", "unknown"] = "rough"
    if not known:
        basis = "unknown"
    elif bases <= {"measured", "calibrated"}:
        basis = "measured"
    before = 0.0
    for job in done:
        seconds_done = predicted_seconds(job, place)
        before += seconds_done or per_example * _examples(job)
    return tuple(jobs), before, basis


def _examples(job: Job) -> float:
    return float(sum(spec.examples for spec in job.specs))
