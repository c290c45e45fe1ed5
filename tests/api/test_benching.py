"""A suite is timed as it trains and as a calibrated plan predicts it; both with workers whose engine is arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.api.benching import time_suite
from gapbench.bench.cases import PREDICTED, TRAINED
from gapbench.core.errors import GapbenchError

pytestmark = pytest.mark.usefixtures("fake_worker")

TRAINS = (2 * (112 + 3), 2 * (112 * 16 + 3 * 512))
"""Updates and examples of the suite."""


def test_a_suite_that_trains_takes_its_time_by_the_clock(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.005")
    found = time_suite(str(suite), TRAINED, "cpu")
    assert found["seconds"] > 112 * 0.005
    assert (found["form"], found["updates"], found["examples"]) == ("trained", *TRAINS)
    assert found["first_update_seconds"] is None
    assert [path.name for path in suite.parent.iterdir()] == [suite.name]  # nothing is left behind


def test_a_prediction_rests_on_calibrating_alone(suite: Path) -> None:
    """A job of the worker says that it trained for 1.5 s, however few updates it made."""
    found = time_suite(str(suite), PREDICTED, "cpu")
    assert found["seconds"] > 112 * 0.1
    assert (found["form"], found["updates"], found["examples"]) == ("calibrated", *TRAINS)


def test_a_suite_that_fails_is_no_timing(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOR", '{"0": "raise"}')
    with pytest.raises(GapbenchError, match="not every run is ok"):
        time_suite(str(suite), TRAINED, "cpu")
