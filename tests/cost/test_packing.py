"""How many jobs a GPU trains at a time: as many as their launches leave room for, counted and never timed."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gapbench import cost
from gapbench.cost import Place, calibration
from gapbench.cost.calibration import Timed
from gapbench.sizing.kinds import KINDS
from gapbench.suite.runspec import Component
from tests.small import MODELS, make_model_spec


@pytest.mark.parametrize(
    ("model", "batch_size", "replicas", "expected"),
    [
        ("resnet44", 128, 1, 2),  # 4.6 ms of launches, 2.5 ms of work
        ("resnet44", 32, 1, 4),
        ("resnet44", 4096, 1, 1),
        ("c1", 128, 1, 1),
        ("c1", 32, 1, 3),
        ("c1", 4096, 1, 1),
        ("wresnet16-4", 128, 1, 1),
        ("wresnet16-4", 4096, 1, 1),
        ("f1", 128, 1, 4),
        ("f1", 4096, 1, 1),
        ("f1", 128, 5, 2),
        ("f1", 128, 32, 1),  # a stack fills the device by itself
    ],
)
def test_launch_bound_kinds_share_a_gpu_and_others_do_not(model: str, batch_size: int, replicas: int, expected: int) -> None:
    assert cost.jobs_at_a_time(make_model_spec(model, batch_size), replicas=replicas, device_kind="cuda") == expected


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"plugin"}))
@pytest.mark.parametrize("batch_size", [16, 128, 1024, 4096])
@pytest.mark.parametrize("replicas", [1, 3])
def test_it_is_the_ratio_of_launches_to_work_rounded_up(model: str, batch_size: int, replicas: int) -> None:
    """By hand, from layers, multiplications and parameters."""
    one = make_model_spec(model, batch_size)
    estimate = cost.estimate(one, device_kind="cuda")
    gpu = KINDS["cuda"]
    layers = {"f1": 6, "c1": 5, "resnet44": 46, "wresnet16-4": 16}[model]  # with the convolutions on shortcuts
    flops = cost.training_flops_per_update(one)
    arithmetic = flops / gpu.flops_per_second
    work = replicas * (arithmetic + estimate.parameters * gpu.parameter_seconds)
    expected = min(cost.MOST_AT_A_TIME, math.ceil(layers * gpu.layer_seconds / work))
    assert cost.jobs_at_a_time(one, replicas=replicas, device_kind="cuda") == expected


def test_a_model_of_unknown_size_and_a_cpu_know_no_gaps() -> None:
    own = make_model_spec("plugin", 16)
    assert cost.jobs_at_a_time(own, replicas=1, device_kind="cuda") == 1
    assert cost.jobs_at_a_time(make_model_spec("f1", 16), replicas=1, device_kind="cpu") == 1


def test_what_was_timed_changes_nothing() -> None:
    place = Place("cuda", "a GPU", cores=16, threads=8, slots=1)
    one = make_model_spec("resnet44", 128)
    before = cost.jobs_at_a_time(one, replicas=1, device_kind="cuda")
    calibration.record_job(place, Timed(one, 1, cost.Buckets(1e6, 1.0, 0.0)))
    assert cost.estimate(one, place=place).basis == "measured"
    assert cost.jobs_at_a_time(one, replicas=1, device_kind="cuda") == before


def test_two_slots_of_one_gpu_are_another_place_than_one_slot_of_each_of_two() -> None:
    shared = Place("cuda", "a GPU", cores=16, threads=8, slots=2, devices=1)
    apart = dataclasses.replace(shared, devices=2)
    alone = dataclasses.replace(shared, slots=1)
    assert len({place.sharing() for place in (shared, apart, alone)}) == 3
    one = make_model_spec("resnet44", 128)
    calibration.record_job(shared, Timed(one, 1, cost.Buckets(1e6, 1.0, 0.0)))
    assert [cost.estimate(one, place=place).basis for place in (shared, apart, alone)] == ["measured", "rough", "rough"]


def test_a_cpus_way_of_sharing_is_named_as_ever() -> None:
    assert Place("cpu", "a processor", cores=2, threads=1, slots=2).sharing() == "cpu 2x1"


def test_the_host_holds_a_worker_and_the_examples_as_read() -> None:
    few, many = (cost.host_mib(make_model_spec("f1", 128, dataset=Component(name=name))) for name in ("digits", "mnist"))
    assert many - few == pytest.approx(2 * 70_000 * 28 * 28 / 2**20, rel=0.1)
    assert cost.host_mib(make_model_spec("f1", 128, dataset=Component(name="nowhere"))) is None
