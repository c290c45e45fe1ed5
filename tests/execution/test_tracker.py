"""What is going on, as numbers: of each job, and of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.core.events import Outcome
from gapbench.execution import Begun, Ended, ExpectedJob, JobEnded, JobProgressed, JobStarted, Stopping, Tracker

JOBS = (ExpectedJob(("a", "b"), 40.0, 1.0, 0), ExpectedJob(("c",), 30.0, 1.0, 1), ExpectedJob(("d",), 30.0, 1.0, 1))
BEGUN = Begun("small", Path("results/small"), 4, 2, 1, 2, 1, ("cpu",), JOBS, 100.0, "measured")


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tracker(clock):
    return Tracker(now=clock)


def test_the_fraction_done_counts_ended_and_running_jobs_by_their_work_and_what_was_done_before(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobStarted(1, "LB", ("c",), 10, 0)):
        tracker.take(notice)
    assert tracker.fraction == pytest.approx(0.5)
    tracker.take(JobProgressed(0, 0, 100, 0.0, ()))
    tracker.take(JobProgressed(0, 50, 100, 1000.0, (0.5, 0.7)))
    assert tracker.fraction == pytest.approx(0.6)
    tracker.take(JobEnded(1, "LB", {"c": Outcome.OK}))
    assert tracker.fraction == pytest.approx(0.75)
    assert tracker.slots[0].accuracy == pytest.approx(0.6)


def test_runs_are_counted_over_the_whole_selection(tracker):
    tracker.take(BEGUN)
    assert (tracker.runs_ended, tracker.runs_failed, tracker.runs) == (2, 1, 6)
    tracker.take(JobStarted(0, "SB × 2", ("a", "b"), 100, 0))
    tracker.take(JobEnded(0, "SB × 2", {"a": Outcome.OK, "b": Outcome.DIVERGED}))
    assert (tracker.runs_ended, tracker.runs_failed, tracker.runs) == (4, 2, 6)


def test_a_job_trains_from_its_first_sign_of_life_on(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0)):
        tracker.take(notice)
    assert not tracker.slots[0].training
    assert tracker.job_seconds_left(0) is None
    tracker.take(JobProgressed(0, 0, 100, 0.0, ()))
    assert tracker.slots[0].training
    assert tracker.job_seconds_left(0) == pytest.approx(40.0)


def test_a_job_that_goes_back_to_the_queue_leaves_its_slot(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobEnded(0, "SB × 2", {})):
        tracker.take(notice)
    assert tracker.slots == {}
    assert tracker.ended.total() == 0


def test_interrupted_runs_have_not_ended(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobEnded(0, "SB × 2", {"a": Outcome.INTERRUPTED, "b": Outcome.OK})):
        tracker.take(notice)
    assert tracker.ended.total() == 1
    assert tracker.fraction == pytest.approx(0.6)


def test_the_time_stops_when_training_is_over(tracker, clock):
    tracker.take(BEGUN)
    assert tracker.predicted_seconds == pytest.approx(60.0)
    clock.seconds = 10.0
    tracker.take(Stopping(at_once=False))
    tracker.take(Ended(interrupted=True))
    clock.seconds = 99.0
    assert tracker.seconds == 10.0
    assert tracker.stopping


def test_a_second_execution_begins_anew(tracker, clock):
    for notice in (
        BEGUN,
        JobStarted(0, "SB × 2", ("a", "b"), 100, 0),
        JobEnded(0, "SB × 2", dict.fromkeys("ab", Outcome.OK)),
        Ended(False),
    ):
        tracker.take(notice)
    clock.seconds = 10.0
    tracker.take(BEGUN)
    clock.seconds = 12.0
    assert (tracker.runs_ended, tracker.over, tracker.seconds) == (2, None, 2.0)
