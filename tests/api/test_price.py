"""The price of a suite: what is left counts, from its checkpoints on, and the limit is held to exactly that."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gapbench import api, cost
from gapbench.api.planning import TooLongError, Work, check_hours, hours, select
from gapbench.core.errors import GapbenchError
from gapbench.core.events import Outcome
from gapbench.cost.calibration import Start
from gapbench.execution import Job, Pending, PricedJob
from gapbench.store import CheckpointHeader, ResultsDirectory, write_checkpoint

pytestmark = pytest.mark.usefixtures("fake_worker", "no_figures")


@pytest.fixture
def work(suite: Path) -> Work:
    return select(suite, api.Place(), settings=None, only=None).at(api.Place(devices="cpu", slots=1))


def all_of(work: Work) -> float:
    """What all jobs take; the starts of a worker and of its programs, which every plan has once, are beside the point here."""
    return sum(work.predictions.of(job).seconds or 0.0 for job in work.layout.jobs)


@pytest.fixture(autouse=True)
def _started(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = cost.estimate
    monkeypatch.setattr("gapbench.execution.jobs.start_of_worker", lambda _: Start(outside_seconds=0.0))
    monkeypatch.setattr(cost, "estimate", lambda *args, **more: dataclasses.replace(estimate(*args, **more), program_seconds=0.0))


def interrupt(work: Work, job: Job, share_done: float) -> None:
    """Leaves what a job that was killed leaves: a checkpoint of all its runs in the folder of the first."""
    run = work.directory.run(job.run_ids[0])
    with ResultsDirectory.create(work.directory.path, work.directory.suite):
        run.path.mkdir(parents=True)
    update = round(share_done * job.specs[0].updates)
    write_checkpoint(run.checkpoint_path, CheckpointHeader(job.run_ids, update, (0,) * job.replicas, 1.0), lambda _: None)


def test_a_fresh_suite_costs_all_its_jobs(suite: Path, work: Work) -> None:
    priced = work.price(work.specs).device_seconds
    assert priced == pytest.approx(all_of(work))
    assert api.plan(suite, devices="cpu", slots=1).device_seconds == pytest.approx(priced)


def test_a_resumed_job_costs_what_its_checkpoint_leaves(suite: Path, work: Work) -> None:
    before = work.price(work.specs).device_seconds
    job = work.layout.jobs[0]
    interrupt(work, job, 0.75)
    dear = work.predictions.of(job).buckets
    assert dear is not None
    done = round(0.75 * job.specs[0].updates) / job.specs[0].updates
    after = work.price(work.specs).device_seconds
    assert before - after == pytest.approx(done * (dear.train + dear.evaluation))  # it is set up again
    assert api.plan(suite, devices="cpu", slots=1).device_seconds == pytest.approx(after)
    with pytest.raises(TooLongError):
        api.run(suite, devices="cpu", slots=1, max_device_hours=0.999 * after / 3600)


def test_a_selected_part_of_an_interrupted_stack_costs_the_stack_since_it_trains_so(work: Work) -> None:
    stack = next(job for job in work.layout.jobs if job.replicas > 1)
    interrupt(work, stack, 0.5)
    (priced,) = work.price([stack.run_ids[1]]).jobs
    assert set(priced.pending.job.run_ids) == set(stack.run_ids)


def test_the_limit_is_what_is_left_and_runs_that_are_done_are_free(suite: Path) -> None:
    api.run(suite, devices="cpu", only="arm=SB")
    rest = api.plan(suite, devices="cpu").device_seconds
    with pytest.raises(TooLongError):
        api.run(suite, devices="cpu", max_device_hours=0.99 * rest / 3600)
    api.run(suite, devices="cpu", max_device_hours=1.01 * rest / 3600)
    api.run(suite, devices="cpu", max_device_hours=0.0)
    with pytest.raises(TooLongError):
        api.run(suite, devices="cpu", force=True, max_device_hours=0.0)


def test_outcomes_that_are_trained_again_are_paid_again(suite: Path, work: Work) -> None:
    api.run(suite, devices="cpu")
    assert work.price(work.specs).jobs == ()
    assert work.price(work.specs, again=(Outcome.OK,)).device_seconds == pytest.approx(all_of(work))


def test_a_refusal_names_price_limit_dearest_cells_and_remedy(suite: Path) -> None:
    with pytest.raises(TooLongError) as caught:
        api.run(suite, devices="cpu", settings={"epochs": "1000"}, max_device_hours=0.001)
    text = str(caught.value)
    for words in ("device hours (SB ", ", LB ", "--max-device-hours 0.001", "--only", "--set epochs=", "gapbench plan"):
        assert words in text
    assert caught.value.exit_status == 2
    assert not Path("results").exists()


def test_a_suite_is_refused_before_its_data_are_fetched(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object) -> None:
        raise AssertionError("looked at data")

    monkeypatch.setattr("gapbench.workloads.datasets.check_available", fetched)
    with pytest.raises(TooLongError):
        api.run(suite, devices="cpu", max_device_hours=0.0)


def test_what_cannot_be_predicted_is_said_and_not_counted(work: Work) -> None:
    jobs = zip(work.layout.jobs, (None, 36.0), strict=False)
    unknown = [PricedJob(Pending(job, None, 0), 0, 0.0, 0.0, seconds, "rough") for job, seconds in jobs]
    cells = dict.fromkeys(work.specs, "SB")
    assert check_hours(unknown, 0.01, cells) == ["1 of 2 jobs cannot be predicted; --max-device-hours does not count their time"]
    with pytest.raises(TooLongError, match=r"0\.01 device hours \(SB 0\.01\)"):
        check_hours(unknown, 0.009, cells)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_limit_that_is_no_limit_is_refused(limit: float) -> None:
    with pytest.raises(GapbenchError, match="at least 0"):
        check_hours([], limit, {})


def test_hours_keep_two_digits_that_mean_something() -> None:
    assert [hours(seconds) for seconds in (0.0, 15.0, 360.0, 45000.0)] == ["0", "0.0042", "0.10", "12.50"]
