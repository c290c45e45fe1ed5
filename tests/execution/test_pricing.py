"""The price of a suite is what its jobs take, played through over the slots as the scheduler hands them out."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost.calibration import Start
from gapbench.execution.devices import Device
from gapbench.execution.jobs import Demand, Job, Pending, Predictions, Slot
from gapbench.execution.rules import expected_jobs, price
from gapbench.suite import load_suite

CPU = Device("cpu", "cpu", "a processor")
PLACE = cost.Place("cpu", "a processor", 2, 1, 2)
SPEC = load_suite("quickstart", only="arm=SB,seed=0").runs[0].spec
START = Start(outside_seconds=5.0, inside_seconds=1.0)
OUTSIDE, PROGRAM, OTHER = 0.25, 2.0, 0.5


def slots(count: int) -> list[Slot]:
    return [Slot(number, CPU, 1) for number in range(count)]


class Arithmetic(Predictions):
    """A job's train seconds are its time limit; without one nothing is known."""

    start = START

    def of(self, job: Job) -> cost.Estimate:
        seconds = job.specs[0].time_limit_seconds
        if seconds is None:
            return cost.Estimate(None, None, None, 0.0, 0.0, "unknown")
        return cost.Estimate(1, 100.0, cost.Buckets(float(seconds), 0.0, OTHER), OUTSIDE, PROGRAM, "measured")

    def demand(self, job: Job) -> Demand:
        return Demand(100.0)


KNOWN = Arithmetic(PLACE)


def pending(*lengths: float | None, updates: int = 0) -> list[Pending]:
    """Jobs of one program that take so many seconds, of which the last goes on after `updates` of 100."""
    specs = [SPEC.model_copy(update={"time_limit_seconds": length, "updates": 100}) for length in lengths]
    jobs = [Job((f"run-{number}",), (spec,)) for number, spec in enumerate(specs)]
    return [*(Pending(job) for job in jobs[:-1]), Pending(jobs[-1], None, updates)]


def test_one_slot_takes_the_sum_and_two_less_than_half_of_it_more_than_the_longest() -> None:
    items = pending(10, 20, 30)
    alone = price(items, slots(1), KNOWN)
    once = 3 * (OUTSIDE + OTHER)
    assert alone.wall_seconds == pytest.approx(60.0 + once + 6.0 + PROGRAM)
    assert alone.device_seconds == pytest.approx(60.0 + 3 * OTHER + START.inside_seconds + PROGRAM)
    both = price(items, slots(2), KNOWN)
    assert [(job.pending.job.run_ids[0], job.slot) for job in both.jobs] == [("run-2", 0), ("run-1", 1), ("run-0", 1)]
    assert both.wall_seconds == pytest.approx(30.0 + 2 * (OUTSIDE + OTHER) + 6.0 + PROGRAM)


def test_a_run_that_goes_on_takes_what_is_left_of_it_and_comes_first() -> None:
    found = price(pending(100, 40, updates=50), slots(1), KNOWN)
    assert [job.pending.job.run_ids[0] for job in found.jobs] == ["run-1", "run-0"]
    assert found.jobs[0].seconds == pytest.approx(20.0 + OTHER + START.inside_seconds + PROGRAM)


def test_what_cannot_be_predicted_is_counted_and_takes_no_time() -> None:
    assert price([], slots(2), KNOWN).wall_seconds == 0.0
    found = price(pending(None, None), slots(1), KNOWN)
    assert (found.unknown, found.device_seconds, dict(found.of_runs())) == (2, 0.0, {})


def test_a_stack_shares_its_seconds_among_its_runs() -> None:
    one, two = pending(30, 30)
    found = price([Pending(Job(("a", "b"), (one.job.specs[0], two.job.specs[0])))], slots(1), KNOWN)
    assert found.of_runs() == dict.fromkeys(("a", "b"), (found.jobs[0].seconds / 2, "measured"))


def test_a_job_of_unknown_time_is_weighed_by_its_examples() -> None:
    items = pending(30, None)
    jobs, before, basis = expected_jobs(items, KNOWN, [items[1].job])
    assert [job.seconds for job in jobs] == pytest.approx([30.0 + OTHER] * 2)
    assert (before, basis) == (pytest.approx(30.0 + OTHER), "rough")
    weights, _, basis = expected_jobs(pending(None), KNOWN)
    assert (weights[0].seconds, basis) == (pytest.approx(1e-6 * items[1].job.specs[0].examples), "unknown")


def test_each_job_is_predicted_as_if_it_were_alone() -> None:
    known = Predictions(PLACE)
    for run in load_suite("quickstart").runs:
        assert known.of(Job((run.run_id,), (run.spec,))) == cost.estimate(run.spec, place=PLACE)


def test_seeds_share_a_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate, predicted = cost.estimate, []
    monkeypatch.setattr(cost, "estimate", lambda spec, **more: predicted.append(spec) or estimate(spec, **more))
    known = Predictions(PLACE)
    for seed in range(4):
        known.of(Job((f"run-{seed}",), (SPEC.model_copy(update={"seed": seed, "init_seed": seed}),)))
    assert len(predicted) == 1
    known.of(Job(("a", "b"), (SPEC, SPEC)))
    assert len(predicted) == 2
