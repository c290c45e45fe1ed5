from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gapbench import cost
from gapbench.cost import calibration
from gapbench.suite import Component, RunSpec, load_suite

SB, LB = (load_suite("quickstart", only=f"arm={arm},seed=0").runs[0].spec for arm in ("SB", "LB"))


def test_work_is_counted() -> None:
    found = cost.estimate(SB)
    weights = 64 * 128 + 2 * 128 * 128 + 128 * 10
    assert (found.updates, found.examples, found.parameters) == (1687, 1687 * 16, weights + 10 + 6 * 128)
    assert found.training_flops == 6.0 * weights * 1687 * 16
    stack = cost.estimate(SB, replicas=8)
    assert stack.training_flops == 8 * found.training_flops
    assert stack.updates == found.updates


def test_seconds_are_rough_until_they_were_measured() -> None:
    rough = cost.estimate(SB)
    assert rough.basis == "rough"
    assert rough.seconds is not None
    assert rough.seconds > 0
    calibration.record(SB, replicas=1, device_kind="cpu", seconds_per_update=0.5)
    measured = cost.estimate(SB)
    assert measured.basis == "measured"
    assert measured.seconds == pytest.approx(1687 * 0.5, rel=0.01)  # and the evaluations
    assert cost.estimate(SB, replicas=2).basis == "rough"
    assert cost.estimate(SB, device_kind="cuda").basis == "rough"


def test_measurement_corrects_the_guess_for_other_batch_sizes() -> None:
    before = cost.estimate(LB).seconds
    calibration.record(SB, replicas=1, device_kind="cpu", seconds_per_update=100.0)
    after = cost.estimate(LB).seconds
    assert before is not None
    assert after is not None
    assert after > 10 * before


def test_second_measurement_is_averaged_with_the_first() -> None:
    for seconds in (0.2, 0.4):
        calibration.record(SB, replicas=4, device_kind="cpu", seconds_per_update=seconds)
    assert calibration.lookup(SB, replicas=4, device_kind="cpu") == pytest.approx(0.3)
    assert calibration.lookup(SB, replicas=1, device_kind="cpu") is None


def test_measurements_do_not_depend_on_length_or_seeds() -> None:
    calibration.record(SB, replicas=1, device_kind="cpu", seconds_per_update=0.2)
    other = SB.model_copy(update={"updates": 3, "init_seed": 4, "learning_rate": 1.0})
    assert calibration.lookup(other, replicas=1, device_kind="cpu") == 0.2
    assert calibration.lookup(SB.model_copy(update={"batch_size": 32}), replicas=1, device_kind="cpu") is None


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0.0, -1.0])
def test_nonsense_is_not_remembered(seconds: float) -> None:
    calibration.record(SB, replicas=1, device_kind="cpu", seconds_per_update=seconds)
    assert not calibration.calibration_file().exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 99, "entries": {}}', '{"format": 1}', '{"format": 1, "entries": []}', '{"format": 1, "entries": {"x": 1}}'],
)
def test_damaged_file_is_made_again(cache: Path, text: str) -> None:
    cache.mkdir()
    calibration.calibration_file().write_text(text)
    assert cost.estimate(SB).basis == "rough"
    calibration.record(SB, replicas=1, device_kind="cpu", seconds_per_update=0.2)
    assert calibration.lookup(SB, replicas=1, device_kind="cpu") == 0.2


def test_cache_that_cannot_be_written_is_passed_over(cache: Path) -> None:
    cache.write_text("a file where the directory should be")
    calibration.record(SB, replicas=1, device_kind="cpu", seconds_per_update=0.2)
    assert calibration.lookup(SB, replicas=1, device_kind="cpu") is None


def test_memory_grows_with_batch_and_replicas() -> None:
    wide = load_suite("mnist", only="arm=LB,seed=0").runs[0].spec
    small, large, stack = (
        found.memory_mib
        for found in (cost.estimate(wide.model_copy(update={"batch_size": 128})), cost.estimate(wide), cost.estimate(wide, replicas=3))
    )
    assert small is not None
    assert large is not None
    assert stack is not None
    assert 850 < small < large < stack


def test_what_is_not_known_is_said(spec: Callable[..., RunSpec]) -> None:
    for unknown in (SB.model_copy(update={"model": Component(name="plugin")}), spec()):  # the second one's file does not exist
        found = cost.estimate(unknown)
        assert (found.parameters, found.training_flops, found.memory_mib, found.seconds, found.basis) == (None, None, None, None, "unknown")
        assert found.updates == unknown.updates
    calibration.record(spec(), replicas=1, device_kind="cpu", seconds_per_update=0.5)
    assert cost.estimate(spec()).seconds == 0.5 * spec().updates
    assert cost.estimate(spec()).basis == "measured"
