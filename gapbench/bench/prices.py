"""A suite as it is trained, and the same suite as the plan of a calibrated machine predicts it: how good prices are."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gapbench import api
from gapbench.bench.cases import TRAINED
from gapbench.bench.measure import Timing
from gapbench.core.errors import GapbenchError


def time_suite(suite: str, program: str, device: str) -> Timing:
    """Returns the seconds by the clock, from the start of the first worker to the end of the last: those it took, or those predicted.

    Both know nothing of this machine from before: the cache is a fresh one, which only the prediction fills, by calibrating.

    Args:
        suite: name of a shipped suite, or path of one, of data that need no download.
        program: TRAINED or PREDICTED, see `gapbench.bench.cases`.
        device: "cpu" or "cuda:0".

    Raises:
        GapbenchError: a run is not ok, or something of the suite cannot be predicted.
    """
    runs = {run.run_id: run.spec for run in api.load_suite(suite).runs}
    before = _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GAPBENCH_CACHE"] = str(Path(folder) / "cache")
        results = Path(folder) / "results"
        if program == TRAINED:
            done = api.run(suite, devices=device, results=results)
            if done.took is None:
                raise GapbenchError(f"suite {suite}: not every run is ok, so its time says nothing: {done!r}")
            seconds, form = done.took.seconds, "trained"
        else:
            api.calibrate(suite, devices=device, results=results)
            plan = api.plan(suite, devices=device, results=results)
            if plan.unknown:
                raise GapbenchError(f"suite {suite}: the time of {plan.unknown} jobs cannot be predicted")
            seconds, form = plan.wall_seconds, "calibrated"
    return Timing(
        form=form,
        first_update_seconds=None,
        updates=sum(spec.updates for spec in runs.values()),
        examples=sum(spec.examples for spec in runs.values()),
        seconds=seconds,
        cpu_seconds=_processor_seconds() - before,
        event_seconds=None,
    )


def _processor_seconds() -> float:
    """Returns the processor time so far of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
