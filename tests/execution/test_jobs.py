"""Jobs and slots follow from the plan and the machine alone."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost import calibration
from gapbench.execution.devices import Device
from gapbench.execution.jobs import MAXIMUM_REPLICAS, demand_of, place_of, plan_jobs, plan_slots
from gapbench.suite import load_suite

CPU = (Device("cpu", "cpu", "a processor"),)


@pytest.fixture
def specs(suite_file):
    def load(**values):
        return {run.run_id: run.spec for run in load_suite(suite_file(**values)).runs}

    return load


def sizes(jobs):
    return sorted(job.replicas for job in jobs)


def slots_of(jobs, **values):
    return plan_slots(jobs, CPU, **{"cores": 8, "memory_mib": 1e6, **values})


def test_every_run_is_in_exactly_one_job(specs):
    runs = specs(last_seed=6)
    jobs = plan_jobs(runs, 3, "cpu")
    assert sorted(run_id for job in jobs for run_id in job.run_ids) == sorted(runs)


def test_small_batches_stack_and_large_ones_do_not(specs):
    assert sizes(plan_jobs(specs(last_seed=2), 1, "cpu")) == [1, 1, 1, 3]


def test_a_stack_is_split_until_every_slot_has_its_share_and_stays_whole_where_it_is_little_of_the_work(specs):
    only_stack = {run_id: spec for run_id, spec in specs(last_seed=7).items() if spec.batch_size == 16}
    for places, expected in ((1, [8]), (2, [4, 4]), (8, [1] * 8)):
        assert sizes(plan_jobs(only_stack, places, "cpu")) == expected
    assert max(sizes(plan_jobs(specs(last_seed=7), 4, "cpu"))) == 8


def test_stacks_have_a_largest_size(specs):
    only_stack = {run_id: spec for run_id, spec in specs(last_seed=39).items() if spec.batch_size == 16}
    jobs = plan_jobs(only_stack, 1, "cpu")
    assert max(sizes(jobs)) <= MAXIMUM_REPLICAS["cpu"]
    assert len(jobs) == 3


def test_jobs_do_not_depend_on_measured_times(specs):
    runs = specs(last_seed=7)
    before = plan_jobs(runs, 4, "cpu")
    place = place_of(slots_of(before))
    for number, job in enumerate(before):
        seconds = cost.Buckets(1e3 * (number + 1), 1.0, 0.0)
        calibration.record_job(place, calibration.Timed(job.specs[0], job.replicas, seconds))
        assert cost.estimate(job.specs[0], replicas=job.replicas, place=place).basis == "measured"
    assert plan_jobs(runs, 4, "cpu") == before


def test_one_slot_a_core_with_one_thread_each(specs):
    assert [slot.threads for slot in slots_of(plan_jobs(specs(last_seed=9), 8, "cpu"))] == [1] * 8


def test_fewer_jobs_than_cores_or_little_memory_mean_fewer_slots_with_more_threads(specs):
    jobs = [job for job in plan_jobs(specs(last_seed=1), 1, "cpu") if job.specs[0].batch_size == 512]
    assert [slot.threads for slot in slots_of(jobs)] == [4, 4]
    jobs = plan_jobs(specs(last_seed=9), 8, "cpu")
    need = max(demand_of(job, "cpu").memory_mib for job in jobs)
    assert [slot.threads for slot in slots_of(jobs, memory_mib=2.5 * need / 0.8)] == [4, 4]


def test_the_users_own_number_of_slots_wins(specs):
    jobs = plan_jobs(specs(last_seed=9), 3, "cpu")
    assert [slot.threads for slot in slots_of(jobs, slots=3)] == [2, 2, 2]
    assert [slot.threads for slot in slots_of(jobs, slots=16)] == [1] * 16


def test_one_slot_a_gpu(specs):
    devices = tuple(Device(f"cuda:{number}", "cuda", "a GPU") for number in range(2))
    slots = plan_slots(plan_jobs(specs(), 2, "cuda"), devices, cores=64, memory_mib=1e6)
    assert [slot.device.name for slot in slots] == ["cuda:0", "cuda:1"]
    assert {slot.threads for slot in slots} == {8}
