"""A suite is timed as it trains and as a calibrated plan predicts it; both with workers whose engine is arithmetic."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gapbench.api.benching import time_suite
from gapbench.bench.cases import PREDICTED, TRAINED
from gapbench.core.errors import GapbenchError
from gapbench.execution import calibrating, executor

FAKES = Path(__file__).parent.parent / "execution"

SUITE = """
schema = 1
name = "small"
[run]
recipe = "digits"
budget = { kind = "updates", factor = 0.02 }
[grid]
seed = "0..1"
[[arm]]
label = "SB"
batch_size = 16
[[arm]]
label = "LB"
batch_size = 512
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(executor, "WORKER_COMMAND", (sys.executable, str(FAKES / "fake_worker.py")))
    monkeypatch.setattr(calibrating, "MEASURING_COMMAND", (sys.executable, str(FAKES / "fake_measuring.py")))
    monkeypatch.setenv("GAPBENCH_CACHE", "to be restored")
    (tmp_path / "small.toml").write_text(SUITE)
    return str(tmp_path / "small.toml")


def test_a_suite_that_trains_takes_its_time_by_the_clock(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.005")
    found = time_suite(suite, TRAINED, "cpu")
    assert found["seconds"] > 33 * 0.005
    assert (found["updates"], found["examples"]) == (4 * 33, 2 * 33 * (16 + 512))
    assert found["first_update_seconds"] is None
    assert found["form"] == "trained"


def test_a_prediction_rests_on_calibrating_alone(suite: str) -> None:
    """The measuring worker says 1 ms an example of an update, 1 ms an evaluated example."""
    found = time_suite(suite, PREDICTED, "cpu")
    assert found["form"] == "calibrated"
    assert found["seconds"] > 33 * 0.512
    assert (found["updates"], found["examples"]) == (4 * 33, 2 * 33 * (16 + 512))


def test_a_suite_that_fails_is_no_timing(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOR", '{"0": "raise"}')
    with pytest.raises(GapbenchError, match="not every run is ok"):
        time_suite(suite, TRAINED, "cpu")


def test_nothing_is_left_behind(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    time_suite(suite, TRAINED, "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]
