"""What is going on, as numbers: how far every job and the whole is, how long the rest will take, and what others see of it.

The time left begins as the cost model's, becomes the measured one, and knows slots, stacks, resumed jobs and start-up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench import catalog
from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.execution import Begun, Ended, JobEnded, Stopping, Tracker
from gapbench.execution.devices import Device, cpu
from gapbench.execution.jobs import Demand, Slot
from gapbench.execution.notices import ExpectedJob, JobProgressed, JobStarted, Notice
from gapbench.execution.progress import Forecast, Heartbeat
from gapbench.store import ResultsDirectory, read_session


def job(name: str, seconds: float, *, share_left: float = 1.0, program: int = 0, runs: int = 1) -> ExpectedJob:
    return ExpectedJob(tuple(f"{name}{number}" for number in range(runs)), seconds, share_left, program)


def begun(*jobs: ExpectedJob, slots: int | tuple[Slot, ...] = 1, basis: str = "measured", before: float = 0.0, **more) -> Begun:
    places = tuple(Slot(number, cpu(), 1) for number in range(slots)) if isinstance(slots, int) else slots
    counts = {"runs": sum(len(job.run_ids) for job in jobs), "done": 0, "failed": 0}
    return Begun(suite="small", results=Path("small"), slots=places, jobs=jobs, seconds_before=before, basis=basis, **counts | more)


def forecast_after(begun: Begun, *taken: tuple[Notice, float]) -> Forecast:
    """What is expected after notices that came at these times."""
    forecast = Forecast(begun)
    for notice, now in taken:
        forecast.take(notice, now)
    return forecast


def started(slot: int, job: ExpectedJob, update: int = 0) -> JobStarted:
    return JobStarted(slot, job.run_ids[0], job.run_ids, 100, update)


def progressed(slot: int, update: int) -> JobProgressed:
    return JobProgressed(slot, update, 100, 1.0, ())


def ended(slot: int, job: ExpectedJob, outcome: Outcome = Outcome.OK) -> JobEnded:
    return JobEnded(slot, "", dict.fromkeys(job.run_ids, outcome))


def test_before_anything_has_trained_it_is_the_prediction_spread_over_the_slots():
    jobs = [job("a", 60.0), job("b", 40.0), job("c", 30.0)]
    assert Forecast(begun(*jobs)).seconds_left(0.0) == pytest.approx(130.0)
    assert Forecast(begun(*jobs, slots=2)).seconds_left(0.0) == pytest.approx(70.0)  # b and then c, beside a
    assert Forecast(begun(*jobs, slots=8)).seconds_left(0.0) == pytest.approx(60.0)


def test_a_job_that_has_a_gpu_to_itself_takes_all_of_its_slots():
    def on_gpus(count: int, *jobs: ExpectedJob) -> Begun:
        gpus = [Device(f"cuda:{number}", "cuda", "a GPU") for number in range(count)]
        return begun(*jobs, slots=tuple(Slot(number, gpus[number % count], 4) for number in range(2 * count)))

    alone = [dataclasses.replace(job(name, 100.0), demand=Demand(at_a_time=1)) for name in "abc"]
    beside = [job("d", 100.0), job("e", 100.0)]
    assert Forecast(on_gpus(1, *alone)).seconds_left(0.0) == pytest.approx(300.0)
    assert Forecast(on_gpus(1, *alone, *beside)).seconds_left(0.0) == pytest.approx(400.0)
    assert forecast_after(on_gpus(1, *alone, *beside), (started(0, alone[0]), 0.0)).seconds_left(0.0) == pytest.approx(400.0)
    assert Forecast(on_gpus(2, *alone)).seconds_left(0.0) == pytest.approx(200.0)


def test_a_resumed_job_takes_only_the_rest():
    resumed = job("a", 100.0, share_left=0.25)
    for forecast in (Forecast(begun(resumed)), forecast_after(begun(resumed), (started(0, resumed, update=75), 0.0))):
        assert forecast.seconds_left(0.0) == pytest.approx(25.0)
        assert forecast.fraction == pytest.approx(0.75)


def test_what_was_done_before_is_part_of_the_whole():
    assert Forecast(begun(job("a", 25.0), before=75.0)).fraction == pytest.approx(0.75)


def play(forecast: Forecast, jobs: list[ExpectedJob], *, seconds: float, setup: float, until: float) -> None:
    """One slot: every job takes `seconds` a hundred updates after a `setup`, in steps of a hundredth."""
    now = 0.0
    for one in jobs:
        forecast.take(started(0, one), now)
        now += setup
        for update in range(101):
            if update:
                now += seconds / 100
            if now > until:
                return
            forecast.take(progressed(0, update), now)
        forecast.take(ended(0, one), now)


@pytest.mark.parametrize("wrong_by", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("basis", ["measured", "rough", "unknown"])
def test_halfway_it_is_right_however_wrong_the_prediction_was(wrong_by, basis):
    jobs = [job(name, 60.0) for name in "abcd"]
    forecast = Forecast(begun(*jobs, basis=basis))
    seconds, setup = 60.0 * wrong_by, 2.0
    whole = 4 * (seconds + setup)
    play(forecast, jobs, seconds=seconds, setup=setup, until=whole / 2 + 1e-9)
    assert forecast.seconds_left(whole / 2) == pytest.approx(whole / 2, rel=0.16)
    assert not forecast.rough


def test_early_a_measured_prediction_counts_more_than_the_first_slow_updates():
    one = job("a", 1000.0)
    slow = ((started(0, one), 0.0), (progressed(0, 0), 0.0), (progressed(0, 1), 30.0))  # three times too slow
    measured, rough = (forecast_after(begun(one, basis=basis), *slow).seconds_left(30.0) for basis in ("measured", "rough"))
    assert 1000.0 < measured < rough < 3.1 * 1000.0


def test_a_rough_prediction_is_rough_until_enough_was_measured():
    jobs = [job("a", 100.0), job("b", 100.0)]
    rough, early = begun(*jobs, basis="rough"), ((started(0, jobs[0]), 0.0), (progressed(0, 0), 0.0), (progressed(0, 5), 5.0))
    assert Forecast(rough).rough
    assert forecast_after(rough, *early).rough
    assert not forecast_after(rough, *early, (progressed(0, 20), 20.0)).rough
    assert not Forecast(begun(*jobs, basis="measured")).rough


def test_without_any_prediction_nothing_is_said_before_something_has_trained():
    one = job("a", 1e-6)
    assert Forecast(begun(one, basis="unknown")).seconds_left(0.0) is None
    forecast = forecast_after(begun(one, basis="unknown"), (started(0, one), 0.0), (progressed(0, 0), 1.0))
    assert forecast.seconds_left(1.0) is forecast.job_seconds_left(0, 1.0) is None
    forecast.take(progressed(0, 10), 11.0)
    assert forecast.seconds_left(11.0) == forecast.job_seconds_left(0, 11.0) == pytest.approx(90.0)


def test_starting_workers_and_setting_up_jobs_is_measured_and_counts_for_those_to_come():
    first, second, third = (job(name, 10.0) for name in "abc")
    one = ((started(0, first), 0.0), (progressed(0, 0), 5.0), (ended(0, first), 15.0))
    other = ((started(0, second), 15.0), (progressed(0, 0), 17.0), (ended(0, second), 27.0))
    assert forecast_after(begun(first, second, third), *one, *other).seconds_left(27.0) == pytest.approx(2.0 + 10.0)


def test_starting_a_worker_counts_from_the_beginning_where_it_was_timed_before():
    jobs = [job(name, 10.0) for name in "abc"]
    assert Forecast(begun(*jobs, slots=2, start_seconds=6.0)).seconds_left(0.0) == pytest.approx(26.0)


def test_programs_have_speeds_of_their_own():
    fast, slow, slow_too = job("a", 50.0, program=0), job("b", 50.0, program=1), job("c", 50.0, program=1)
    one = ((started(0, fast), 0.0), (progressed(0, 0), 0.0), (ended(0, fast), 50.0))
    other = ((started(0, slow), 50.0), (progressed(0, 0), 50.0), (ended(0, slow), 250.0))
    assert forecast_after(begun(fast, slow, slow_too), *one, *other).seconds_left(250.0) == pytest.approx(200.0, rel=0.05)


def test_a_stack_that_goes_back_to_the_queue_is_expected_run_by_run():
    stack = job("a", 80.0, runs=4)
    forecast = forecast_after(begun(stack), (started(0, stack), 0.0), (JobEnded(0, "", {}), 0.0))
    assert forecast.seconds_left(0.0) == pytest.approx(80.0)
    forecast.take(started(0, ExpectedJob(("a2",), 20.0, 1.0, 0)), 0.0)
    forecast.take(JobEnded(0, "", {"a2": Outcome.OK}), 20.0)
    assert forecast.fraction == pytest.approx(0.25)


def test_an_interrupted_job_is_left_to_do_from_where_it_is():
    one = job("a", 100.0, runs=2)
    taken = ((started(0, one), 0.0), (progressed(0, 0), 0.0), (progressed(0, 40), 40.0), (ended(0, one, Outcome.INTERRUPTED), 40.0))
    assert forecast_after(begun(one, job("b", 50.0)), *taken).seconds_left(40.0) == pytest.approx(60.0 + 50.0)


def test_a_job_without_a_sign_of_life_counts_down_and_never_below_zero():
    one = job("a", 100.0)
    forecast = forecast_after(begun(one), (started(0, one), 0.0), (progressed(0, 0), 0.0), (progressed(0, 50), 50.0))
    assert forecast.seconds_left(60.0) == pytest.approx(40.0)
    assert forecast.seconds_left(500.0) == 0.0


@given(
    lengths=st.lists(st.floats(0.0, 1e5), min_size=1, max_size=12),
    slots=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    basis=st.sampled_from(["measured", "rough", "unknown"]),
)
def test_whatever_happens_it_stays_sane(lengths, slots, seed, basis):
    """Jobs of any length on any slots, ending in any way at any time: never negative, never above all, zero at the end."""
    order = random.Random(seed)
    jobs = [job(f"j{number}-", seconds, runs=1 + number % 3, program=number % 2) for number, seconds in enumerate(lengths)]
    forecast = Forecast(begun(*jobs, slots=slots, basis=basis))
    waiting, running, now = list(jobs), {}, 0.0
    while waiting or running:
        now += order.uniform(0.0, 100.0)
        free = [slot for slot in range(slots) if slot not in running]
        if waiting and free and order.random() < 0.6:
            running[free[0]] = waiting.pop(0)
            forecast.take(started(free[0], running[free[0]]), now)
        elif running:
            slot = order.choice(sorted(running))
            if order.random() < 0.5:
                forecast.take(progressed(slot, order.randint(0, 100)), now)
            else:
                forecast.take(ended(slot, running.pop(slot), order.choice([Outcome.OK, Outcome.DIVERGED, Outcome.CRASHED])), now)
        left = forecast.seconds_left(now)
        assert left is None or left >= 0.0
        assert 0.0 <= forecast.fraction <= 1.0
    assert forecast.seconds_left(now) in (0.0, None)
    assert forecast.fraction == pytest.approx(1.0 if sum(lengths) > 0.0 else 0.0)


# The tracker.

JOBS = (ExpectedJob(("a", "b"), 40.0, 1.0, 0), ExpectedJob(("c",), 30.0, 1.0, 1), ExpectedJob(("d",), 30.0, 1.0, 1))
BEGUN = begun(*JOBS, slots=2, before=100.0, done=2, failed=1)


ACCURACY, LOSS = (catalog.metrics()[name] for name in ("accuracy", "loss"))
STARTED = JobStarted(0, "SB × 2", ("a", "b"), 100, 0, ACCURACY)


@pytest.fixture
def clock():
    return SimpleNamespace(seconds=0.0)


@pytest.fixture
def take(clock):
    """Makes a tracker that has taken notices."""

    def after(*notices: Notice) -> Tracker:
        tracker = Tracker(now=lambda: clock.seconds)
        for notice in (BEGUN, *notices):
            tracker.take(notice)
        return tracker

    return after


def test_the_fraction_done_counts_ended_and_running_jobs_by_their_work_and_what_was_done_before(take):
    tracker = take(STARTED, JobStarted(1, "LB", ("c",), 10, 0))
    assert tracker.fraction == pytest.approx(0.5)
    tracker.take(JobProgressed(0, 0, 100, 0.0, ()))
    tracker.take(JobProgressed(0, 50, 100, 1000.0, (0.5, 0.7)))
    assert tracker.fraction == pytest.approx(0.6)
    tracker.take(JobEnded(1, "LB", {"c": Outcome.OK}))
    assert tracker.fraction == pytest.approx(0.75)
    assert tracker.slots[0].headline == pytest.approx(0.6)


def test_runs_are_counted_over_the_whole_selection(take):
    before, after = take(), take(STARTED, JobEnded(0, "SB × 2", {"a": Outcome.OK, "b": Outcome.DIVERGED}))
    assert (before.runs_ended, before.runs_failed, before.runs) == (2, 1, 6)
    assert (after.runs_ended, after.runs_failed, after.runs) == (4, 2, 6)


def test_a_job_trains_from_its_first_sign_of_life_on(take):
    tracker = take(STARTED)
    assert not tracker.slots[0].training
    assert tracker.job_seconds_left(0) is None
    tracker.take(JobProgressed(0, 0, 100, 0.0, ()))
    assert tracker.slots[0].training
    assert tracker.job_seconds_left(0) == pytest.approx(40.0)


def test_a_job_that_goes_back_to_the_queue_leaves_its_slot(take):
    tracker = take(STARTED, JobEnded(0, "SB × 2", {}))
    assert (tracker.slots, tracker.ended.total()) == ({}, 0)


def test_interrupted_runs_have_not_ended(take):
    tracker = take(STARTED, JobEnded(0, "SB × 2", {"a": Outcome.INTERRUPTED, "b": Outcome.OK}))
    assert tracker.ended.total() == 1
    assert tracker.fraction == pytest.approx(0.6)


def test_the_time_stops_when_training_is_over(take, clock):
    tracker = take()
    assert tracker.predicted_seconds == pytest.approx(60.0)
    clock.seconds = 10.0
    tracker.take(Stopping(at_once=False))
    tracker.take(Ended(interrupted=True))
    clock.seconds = 99.0
    assert tracker.seconds == 10.0
    assert tracker.stopping


def test_a_second_execution_begins_anew(take, clock):
    tracker = take(STARTED, JobEnded(0, "SB × 2", dict.fromkeys("ab", Outcome.OK)), Ended(False))
    clock.seconds = 10.0
    tracker.take(BEGUN)
    clock.seconds = 12.0
    assert (tracker.runs_ended, tracker.over, tracker.seconds) == (2, None, 2.0)


# The heartbeat.

STACK = begun(job("a", 40.0, runs=2), command="gapbench run small.toml")


@pytest.fixture
def results(tmp_path):
    with ResultsDirectory.create(tmp_path / "small", "small") as directory:
        yield directory


def session(results):
    return read_session(results.path).session


def test_the_state_follows_what_happens(results):
    with Heartbeat(results, seconds=3600.0) as beat:
        beat(STACK)
        seen = session(results)
        assert (seen.state, seen.pid, seen.command) == ("training", os.getpid(), "gapbench run small.toml")
        assert seen.seconds_left == pytest.approx(40.0, abs=5.0)
        beat(JobStarted(0, "SB × 2", ("a0", "a1"), 100, 0, ACCURACY))
        beat(JobProgressed(0, 50, 100, 9.0, (0.5, 0.7)))
        beat.write("training")
        (job,) = session(results).jobs
        assert (job.title, job.run_ids, job.update, job.updates) == ("SB × 2", ("a0", "a1"), 50, 100)
        assert job.test_accuracy == pytest.approx(0.6)
        beat(JobStarted(0, "VAE", ("a0",), 100, 0, LOSS))
        beat(JobProgressed(0, 50, 100, 9.0, (81.5,)))
        beat.write("training")
        assert session(results).jobs[0].test_accuracy is None  # of a model that classifies nothing
        beat(Stopping(at_once=False))
        beat(Ended(interrupted=True))
    assert session(results).state == "interrupted"
    with Heartbeat(results) as beat:
        beat(STACK)
        beat(Ended(interrupted=False))
    assert session(results).state == "ended"


def test_an_error_of_ours_is_an_interruption(results):
    beat = Heartbeat(results)
    with contextlib.suppress(RuntimeError), beat:
        beat(STACK)
        raise RuntimeError
    assert session(results).state == "interrupted"


def test_it_beats_by_itself(results):
    with Heartbeat(results, seconds=0.01) as beat:
        beat(STACK)
        first = session(results).seconds
        while session(results).seconds == first:
            pass


def test_a_disk_that_cannot_be_written_to_does_not_stop_training(results, monkeypatch):
    def full(*_):
        raise StoreError("no space left")

    monkeypatch.setattr("gapbench.execution.progress.write_session", full)
    with Heartbeat(results) as beat:
        beat(STACK)
    assert read_session(results.path) is None


def test_where_nothing_trains_nothing_is_written(results):
    with Heartbeat(results):
        pass
    assert read_session(results.path) is None


def test_a_suite_leaves_its_session_behind(train, suite_file):
    done = train(suite_file(last_seed=0))
    assert session(done.directory).state == "ended"
    assert session(done.directory).jobs == ()
