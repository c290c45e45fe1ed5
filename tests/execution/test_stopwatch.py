"""What jobs and starts of workers took is noted as far as it is known, and nothing else is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gapbench import cost
from gapbench.core.events import Outcome
from gapbench.cost import calibration
from gapbench.execution import choose_devices, plan_layout
from gapbench.execution.calibrating import Stopwatch
from gapbench.execution.devices import Device
from gapbench.execution.jobs import Slot, place_of
from gapbench.execution.notices import JobEnded, JobStarted
from gapbench.store import ResultsDirectory, RunOutcome
from gapbench.suite import load_suite

SPECS = [load_suite("quickstart", only=f"arm=SB,seed={seed}").runs[0].spec for seed in range(4)]
SLOTS = [Slot(0, Device("cpu", "cpu", "a processor"), 1)]
PLACE = place_of(SLOTS)


class Suite:
    """Plays a suite to a stopwatch."""

    def __init__(self, folder: Path) -> None:
        self.results = ResultsDirectory(folder, "suite")
        self.now = 100.0
        self.watch = Stopwatch(self.results, SLOTS, {f"run-{seed}": spec for seed, spec in enumerate(SPECS)}, now=lambda: self.now)

    def train(self, job: tuple[int, ...], wall: float, outcome: Outcome = Outcome.OK, update: int = 0, **seconds: float) -> None:
        ids = tuple(f"run-{seed}" for seed in job)
        self.watch(JobStarted(0, "a job", ids, 1687, update))
        self.now += wall
        costs = {"train_seconds": 8.0, "evaluation_seconds": 2.0, "other_seconds": 0.5, "peak_memory_mib": 700.0} | seconds
        for run_id in ids:
            shares = {name: value / len(ids) if name.endswith("seconds") else value for name, value in costs.items()}
            self.results.run(run_id).write_outcome(RunOutcome(outcome, summary=shares, update=1687, replicas=len(ids)))
        self.watch(JobEnded(0, "a job", dict.fromkeys(ids, outcome)))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "results")


def entry(replicas: int = 1) -> calibration.Entry:
    return calibration.lookup(SPECS[0], PLACE, replicas=replicas)


def test_the_first_job_of_a_worker_tells_what_its_start_takes(suite: Suite) -> None:
    suite.train((0,), wall=16.0, other_seconds=1.0)
    start = calibration.start_of_worker(PLACE)
    assert start.outside_seconds == pytest.approx(16.0 - 11.0, abs=0.1)
    assert start.inside_seconds == pytest.approx(1.0, abs=0.1)
    held = cost.held_mib(SPECS[0], replicas=1, device_kind="cpu")
    assert calibration.base_of_worker(PLACE) == pytest.approx(700.0 - held)
    (job,) = entry().jobs
    assert (job.setup_seconds, job.outside_seconds) == (None, None)
    found = cost.estimate(SPECS[0], place=PLACE).buckets
    assert (found.train, found.evaluation) == pytest.approx((8.0, 2.0), rel=0.05)


def test_later_jobs_tell_what_a_job_takes(suite: Suite) -> None:
    suite.train((0,), wall=16.0)
    suite.train((1,), wall=10.75)
    assert (entry().jobs[-1].setup_seconds, entry().jobs[-1].outside_seconds) == pytest.approx((0.5, 0.25))
    assert calibration.start_of_worker(PLACE).outside_seconds == pytest.approx(5.5, abs=0.1)


def test_a_stack_is_noted_once_and_as_a_whole(tmp_path: Path) -> None:
    stack = Suite(tmp_path / "results")
    stack.train((0, 1, 2, 3), wall=16.0)
    assert len(entry(replicas=4).jobs) == 1
    found = cost.estimate(SPECS[0], replicas=4, place=PLACE).buckets
    assert found.train == pytest.approx(8.0, rel=0.05)
    assert calibration.lookup(SPECS[0], PLACE, replicas=1) is None


def test_a_run_that_went_on_is_not_noted(suite: Suite) -> None:
    """Where the rest of it trained is not known."""
    suite.train((0,), wall=3.0, update=1000)
    assert calibration.lookup(SPECS[0], PLACE, replicas=1) is None


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.TIMEOUT, Outcome.CRASHED, Outcome.OUT_OF_MEMORY])
def test_only_what_ended_ok_is_noted_and_its_worker_no_longer_trusted(suite: Suite, outcome: Outcome) -> None:
    suite.train((0,), wall=3.0, outcome=outcome)
    assert calibration.lookup(SPECS[0], PLACE, replicas=1) is None
    suite.train((1,), wall=60.0)  # by a new worker or by the old one
    (job,) = entry().jobs
    assert (job.setup_seconds, job.outside_seconds) == (None, None)
    assert calibration.start_of_worker(PLACE) == calibration.GUESSED_START


@pytest.mark.parametrize("seconds", [{"train_seconds": float("nan")}, {"train_seconds": 0.0}, {"evaluation_seconds": float("inf")}])
def test_nonsense_is_not_noted(suite: Suite, seconds: dict[str, float]) -> None:
    suite.train((0,), wall=3.0, **seconds)
    assert calibration.lookup(SPECS[0], PLACE, replicas=1) is None


def test_a_job_that_goes_back_to_the_queue_leaves_no_trace(suite: Suite) -> None:
    suite.watch(JobStarted(0, "a job", ("run-0",), 1687, 0))
    suite.watch(JobEnded(0, "a job", {}))
    assert calibration.lookup(SPECS[0], PLACE, replicas=1) is None


def test_a_suite_that_trained_is_measured_in_the_next_plan(train, suite_file) -> None:
    done = train(suite_file())
    layout = plan_layout({run.run_id: run.spec for run in done.suite.runs}, choose_devices("cpu"), 1)
    found = {cost.estimate(job.specs[0], replicas=job.replicas, place=place_of(layout.slots)).basis for job in layout.jobs}
    assert found == {"measured"}
    elsewhere = dataclasses.replace(place_of(layout.slots), slots=2)
    assert cost.estimate(layout.jobs[0].specs[0], replicas=layout.jobs[0].replicas, place=elsewhere).basis == "rough"
