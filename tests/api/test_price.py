"""The price of a suite: what is left counts, from its checkpoints on, and the limit is held to exactly that."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gapbench import api, cost
from gapbench.api.planning import TooLongError, check_hours, hours, pending_jobs
from gapbench.core.errors import GapbenchError
from gapbench.core.events import Outcome
from gapbench.cost.calibration import Start
from gapbench.execution import (
    Job,
    Layout,
    Pending,
    Predictions,
    Price,
    PricedJob,
    choose_devices,
    place_of,
    plan_layout,
    price,
)
from gapbench.store import CheckpointHeader, ResultsDirectory, write_checkpoint
from gapbench.suite import load_suite

pytestmark = pytest.mark.usefixtures("fake_worker", "no_figures")


def layout_of(suite: Path) -> tuple[ResultsDirectory, Layout]:
    specs = {run.run_id: run.spec for run in load_suite(suite).runs}
    return ResultsDirectory(Path("results/small"), "small"), plan_layout(specs, choose_devices("cpu"), 1)


def left(directory: ResultsDirectory, layout: Layout, selected: list[str] | None = None, again: tuple[Outcome, ...] = ()) -> Price:
    selected = selected if selected is not None else [run_id for job in layout.jobs for run_id in job.run_ids]
    return price(pending_jobs(directory, layout.jobs, selected, again), layout.slots)


def all_of(layout: Layout) -> float:
    """What all jobs take; the starts of a worker and of its programs, which every plan has once, are beside the point here."""
    known = Predictions(place_of(layout.slots))
    return sum(known.of(job).seconds or 0.0 for job in layout.jobs)


@pytest.fixture(autouse=True)
def _started(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = cost.estimate
    monkeypatch.setattr("gapbench.execution.jobs.start_of_worker", lambda _: Start(outside_seconds=0.0))
    monkeypatch.setattr(cost, "estimate", lambda *args, **more: dataclasses.replace(estimate(*args, **more), program_seconds=0.0))


def interrupt(directory: ResultsDirectory, job: Job, share_done: float) -> None:
    """Leaves what a job that was killed leaves: a checkpoint of all its runs in the folder of the first."""
    run = directory.run(job.run_ids[0])
    with ResultsDirectory.create(directory.path, directory.suite):
        run.path.mkdir(parents=True)
    update = round(share_done * job.specs[0].updates)
    write_checkpoint(run.checkpoint_path, CheckpointHeader(job.run_ids, update, (0,) * job.replicas, 1.0), lambda _: None)


def test_a_fresh_suite_costs_all_its_jobs(suite: Path) -> None:
    directory, layout = layout_of(suite)
    priced = left(directory, layout).device_seconds
    assert priced == pytest.approx(all_of(layout))
    assert api.plan(suite, devices="cpu", slots=1).device_seconds == pytest.approx(priced)


def test_a_resumed_job_costs_what_its_checkpoint_leaves(suite: Path) -> None:
    directory, layout = layout_of(suite)
    before = left(directory, layout).device_seconds
    interrupt(directory, layout.jobs[0], 0.75)
    dear = Predictions(place_of(layout.slots)).of(layout.jobs[0]).buckets
    assert dear is not None
    done = round(0.75 * layout.jobs[0].specs[0].updates) / layout.jobs[0].specs[0].updates
    after = left(directory, layout).device_seconds
    assert before - after == pytest.approx(done * (dear.train + dear.evaluation))  # it is set up again
    assert api.plan(suite, devices="cpu", slots=1).device_seconds == pytest.approx(after)
    with pytest.raises(TooLongError):
        api.run(suite, devices="cpu", slots=1, max_device_hours=0.999 * after / 3600)


def test_a_selected_part_of_an_interrupted_stack_costs_the_stack_since_it_trains_so(suite: Path) -> None:
    directory, layout = layout_of(suite)
    stack = next(job for job in layout.jobs if job.replicas > 1)
    interrupt(directory, stack, 0.5)
    (priced,) = left(directory, layout, [stack.run_ids[1]]).jobs
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


def test_outcomes_that_are_trained_again_are_paid_again(suite: Path) -> None:
    api.run(suite, devices="cpu")
    directory, layout = layout_of(suite)
    assert left(directory, layout).jobs == ()
    assert left(directory, layout, again=(Outcome.OK,)).device_seconds == pytest.approx(all_of(layout))


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


def test_what_cannot_be_predicted_is_said_and_not_counted(suite: Path) -> None:
    _, layout = layout_of(suite)
    unknown = [
        PricedJob(Pending(job, None, 0), 0, 0.0, 0.0, seconds, "rough") for job, seconds in zip(layout.jobs, (None, 36.0), strict=False)
    ]
    cells = dict.fromkeys([run_id for job in layout.jobs for run_id in job.run_ids], "SB")
    assert check_hours(unknown, 0.01, cells) == ["1 of 2 jobs cannot be predicted; --max-device-hours does not count their time"]
    with pytest.raises(TooLongError, match=r"0\.01 device hours \(SB 0\.01\)"):
        check_hours(unknown, 0.009, cells)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_limit_that_is_no_limit_is_refused(limit: float) -> None:
    with pytest.raises(GapbenchError, match="at least 0"):
        check_hours([], limit, {})


def test_hours_keep_two_digits_that_mean_something() -> None:
    assert [hours(seconds) for seconds in (0.0, 15.0, 360.0, 45000.0)] == ["0", "0.0042", "0.10", "12.50"]
