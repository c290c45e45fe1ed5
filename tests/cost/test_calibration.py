"""What was timed is kept by machine and by how it is shared out, and used for nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gapbench import cost
from gapbench.cost import Place, calibration
from gapbench.cost.calibration import Scales, Start, Timed
from gapbench.suite import Component, RunSpec, load_suite

SB, LB, GBN, RA = (load_suite("quickstart", only=f"arm={arm},seed=0").runs[0].spec for arm in ("SB", "LB", "LB+LR+GBN", "LB+LR+GBN+RA"))


def record(spec: RunSpec, here: Place, train: float, evaluation: float = 1.0, replicas: int = 1, **more: float) -> None:
    calibration.record_job(here, Timed(spec, replicas, cost.Buckets(train, evaluation, 0.0), **more))


def seconds(spec: RunSpec, here: Place, replicas: int = 1) -> cost.Buckets:
    return cost.estimate(spec, replicas=replicas, place=here).buckets


def measured(factor: float) -> Scales:
    return Scales(train=factor, evaluation=1.0, setup_seconds=0.1, program_seconds=0.2, outside_seconds=0.1)


def test_a_job_that_trained_predicts_the_next_one(here: Place) -> None:
    assert cost.estimate(SB, place=here).basis == "rough"
    record(SB, here, 80.0, 6.0, setup_seconds=0.5, outside_seconds=0.25)
    found = cost.estimate(SB, place=here)
    assert found.basis == "measured"
    assert (found.buckets.train, found.buckets.evaluation, found.outside_seconds) == pytest.approx((80.0, 6.0, 0.25), rel=0.03)
    assert cost.estimate(SB).basis == "rough"  # wherever it trains


def test_what_was_timed_does_not_depend_on_length_seeds_or_rates(here: Place) -> None:
    record(SB, here, 80.0)
    other = SB.model_copy(update={"updates": 2 * SB.updates, "init_seed": 4, "learning_rate": 1.0})
    assert cost.estimate(other, place=here).basis == "measured"
    assert seconds(other, here).train == pytest.approx(160.0, rel=0.05)


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 32}, {"ghost_batch_size": 8}, {"precision": "bf16"}, {"clip_norm": None}, {"optimizer": Component(name="adamw")}],
    ids=str,
)
def test_another_program_is_another_entry(change: dict[str, object], here: Place) -> None:
    record(SB, here, 80.0)
    assert cost.estimate(SB.model_copy(update=change), place=here).basis == "rough"
    assert cost.estimate(SB, place=here, replicas=2).basis == "rough"


@pytest.mark.parametrize(
    "change",
    [{"threads": 2}, {"slots": 1}, {"cores": 4}, {"device_kind": "cuda"}, {"device_name": "another GPU", "device_kind": "cuda"}],
    ids=str,
)
def test_nothing_is_used_where_it_was_not_timed(change: dict[str, object], here: Place) -> None:
    record(SB, here, 800.0)
    calibration.record_measurement(SB, here, replicas=1, measured=measured(100.0))
    calibration.record_start(here, Start(outside_seconds=99.0))
    there = dataclasses.replace(here, **change)
    guess = cost.estimate(SB, device_kind=there.device_kind)
    found = cost.estimate(SB, place=there)
    assert (found.basis, found.buckets) == ("rough", guess.buckets)
    assert calibration.start_of_worker(there) == calibration.GUESSED_START


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("gapbench.cost.calibration.cpu_name", lambda: "another processor"),
        ("gapbench.cost.calibration.package_version", lambda _package: "99.0"),
        ("gapbench.__version__", "99.0"),
    ],
)
def test_another_processor_torch_or_gapbench_is_another_machine(
    part: str, other: object, here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(SB, here, 80.0)
    before = calibration.calibration_file(here)
    monkeypatch.setattr(part, other)
    assert calibration.calibration_file(here) != before
    assert cost.estimate(SB, place=here).basis == "rough"
    before.rename(calibration.calibration_file(here))  # even under the other's name
    assert cost.estimate(SB, place=here).basis == "rough"


def test_a_short_measurement_counts_less_than_the_last_job(here: Place) -> None:
    guess = seconds(SB, here).train
    calibration.record_measurement(SB, here, replicas=1, measured=measured(10.0))
    assert cost.estimate(SB, place=here).basis == "calibrated"
    calibrated = seconds(SB, here).train
    assert calibrated == pytest.approx(10.0 * guess, rel=0.3)
    record(SB, here, 20.0 * guess)
    assert cost.estimate(SB, place=here).basis == "measured"
    assert 0.5 * (calibrated + 20.0 * guess) < seconds(SB, here).train < 20.0 * guess


def test_recent_jobs_count_more_than_earlier_ones(here: Place) -> None:
    for train in (40.0, 40.0, 80.0):
        record(SB, here, train)
    assert 60.0 < seconds(SB, here).train < 80.0


def test_a_job_of_a_few_updates_says_little_of_a_long_one(here: Place) -> None:
    few = SB.model_copy(update={"updates": 3})
    guess = seconds(SB, here).train
    record(few, here, 30.0)
    assert cost.estimate(SB, place=here).basis == "rough"
    assert cost.estimate(few, place=here).basis == "measured"
    record(SB, here, guess)
    assert seconds(SB, here).train < 100.0 * guess


def test_three_updates_of_a_smoke_run_do_not_spoil_a_guess(here: Place) -> None:
    guess, few = seconds(RA, here).train, RA.model_copy(update={"updates": 3})
    slow = 20.0 * seconds(few, here).train
    for _ in range(8):
        record(few, here, slow)
    assert guess < seconds(RA, here).train < 2.0 * guess
    assert cost.estimate(RA, place=here).basis == "rough"


def test_what_was_timed_corrects_the_guess_for_other_batch_sizes_and_replicas(here: Place) -> None:
    guess, stacked = seconds(LB, here).train, seconds(SB, here, replicas=4).train
    record(SB, here, 10.0 * seconds(SB, here).train)
    assert (seconds(LB, here).train, seconds(SB, here, replicas=4).train) == pytest.approx((10.0 * guess, 10.0 * stacked), rel=0.03)
    assert cost.estimate(LB, place=here).basis == "rough"


def test_a_guess_is_corrected_by_the_nearest_batch_then_the_nearest_stack_then_the_newest(here: Place) -> None:
    def wrong_by(factor: float, replicas: int = 1, **changes: Any) -> None:
        other = SB.model_copy(update=changes)
        record(other, here, factor * guess(other, replicas).train, replicas=replicas)

    def guess(spec: RunSpec, replicas: int) -> cost.Buckets:
        return cost.estimate(spec, replicas=replicas).buckets

    def factor() -> float:
        return seconds(SB, here, replicas=9).train / guess(SB, 9).train

    for by, replicas, changes in (
        (16.0, 8, {"batch_size": 64}),
        (8.0, 1, {}),
        (4.0, 8, {"clip_norm": None}),
        (2.0, 8, {"ghost_batch_size": 8}),
    ):
        wrong_by(by, replicas, **changes)
        assert factor() == pytest.approx(by, rel=0.15)
    wrong_by(32.0, 2, ghost_batch_size=8)
    assert factor() == pytest.approx(2.0, rel=0.15)


def test_a_model_of_which_nothing_can_be_guessed_is_known_once_it_has_trained(spec: Callable[..., RunSpec], here: Place) -> None:
    unknown = SB.model_copy(update={"model": Component(name="plugin")})
    for found in (cost.estimate(unknown, place=here), cost.estimate(spec(), place=here)):  # the second one's file does not exist
        assert (found.parameters, found.memory_mib, found.seconds, found.basis) == (None, None, None, "unknown")
    record(unknown, here, 33.0, 4.0)
    found = cost.estimate(unknown, place=here)
    assert found.basis == "measured"
    assert (found.buckets.train, found.buckets.evaluation) == pytest.approx((33.0, 4.0))
    longer = unknown.model_copy(update={"updates": 3 * unknown.updates})
    assert seconds(longer, here).train == pytest.approx(99.0)


def test_workers_hold_and_take_what_they_took_last(here: Place) -> None:
    assert calibration.base_of_worker(here) is None
    for base in (600.0, 640.0, 610.0):
        calibration.record_start(here, Start(outside_seconds=base / 100.0, inside_seconds=1.0, base_mib=base))
    assert calibration.start_of_worker(here).outside_seconds == pytest.approx(18.5 / 3.0)
    assert calibration.base_of_worker(here) == 610.0
    held = cost.held_mib(SB, replicas=1, device_kind="cpu")
    assert cost.estimate(SB, place=here).memory_mib == pytest.approx(610.0 + held)


def test_the_last_jobs_of_the_last_lengths_are_kept(here: Place) -> None:
    for updates in (10, 20, 30, 40, 50):
        spec = SB.model_copy(update={"updates": updates})
        for number in range(6):
            record(spec, here, 1.0 + number)
    entry = calibration.lookup(SB, here, replicas=1)
    assert [job.updates for job in entry.jobs] == [updates for updates in (20, 30, 40, 50) for _ in range(4)]
    assert [job.train / entry.jobs[0].train for job in entry.jobs[:4]] == pytest.approx([1.0, 4 / 3, 5 / 3, 2.0])


def test_short_jobs_after_a_long_one_do_not_make_it_forgotten(here: Place) -> None:
    """Of one program the long jobs train first, so that those of another arm are always the more recent."""
    record(RA, here, 60.0)
    for _ in range(8):
        record(GBN, here, 3.0)
    assert seconds(RA, here).train == pytest.approx(60.0, rel=0.15)
    assert cost.estimate(RA, place=here).basis == "measured"


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, 0.0, -1.0])
def test_nonsense_is_no_time(nonsense: float, here: Place) -> None:
    with pytest.raises(ValidationError):
        record(SB, here, nonsense)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "entries": {}}', '{"format": 3}', '{"format": 3, "machine": {}, "entries": {"x": 1}}']
)
def test_a_damaged_or_older_file_is_made_again(here: Place, text: str) -> None:
    path = calibration.calibration_file(here)
    path.parent.mkdir()
    path.write_text(text)
    assert cost.estimate(SB, place=here).basis == "rough"
    record(SB, here, 80.0)
    assert cost.estimate(SB, place=here).basis == "measured"


def test_a_cache_that_cannot_be_written_is_passed_over(cache: Path, here: Place) -> None:
    cache.write_text("a file where the directory should be")
    record(SB, here, 80.0)
    calibration.record_start(here, Start(outside_seconds=1.0))
    assert cost.estimate(SB, place=here).basis == "rough"
