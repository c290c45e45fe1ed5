"""What this machine was timed at is kept, one kind of number beside the other."""

from __future__ import annotations

import json

import pytest

from gapbench.cost import calibration


def test_how_long_a_worker_takes_to_start_is_averaged_with_the_last_time():
    assert calibration.start_seconds("cpu") == 0.0
    calibration.record_start("cpu", 4.0)
    assert calibration.start_seconds("cpu") == 4.0
    calibration.record_start("cpu", 8.0)
    assert calibration.start_seconds("cpu") == 6.0
    assert calibration.start_seconds("cuda") == 0.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_not_kept(seconds):
    calibration.record_start("cpu", seconds)
    assert not calibration.calibration_file().exists()


def test_updates_and_starts_stand_side_by_side(spec):
    one = spec()
    calibration.record(one, replicas=1, device_kind="cpu", seconds_per_update=0.5)
    calibration.record_start("cpu", 4.0)
    calibration.record(one, replicas=2, device_kind="cpu", seconds_per_update=0.7)
    assert calibration.lookup(one, replicas=1, device_kind="cpu") == 0.5
    assert calibration.start_seconds("cpu") == 4.0


def test_a_file_from_before_starts_were_timed_is_read(spec):
    one = spec()
    calibration.record(one, replicas=1, device_kind="cpu", seconds_per_update=0.5)
    path = calibration.calibration_file()
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "start_seconds"}))
    assert calibration.lookup(one, replicas=1, device_kind="cpu") == 0.5
    assert calibration.start_seconds("cpu") == 0.0
