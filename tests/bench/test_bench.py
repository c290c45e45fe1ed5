"""The bench: its sides compute the same, its report says what was measured."""

import json
import subprocess
import sys

import pytest

from gapbench.bench import CASES, compare
from gapbench.core.errors import GapbenchError


def measurements(monkeypatch: pytest.MonkeyPatch, values: dict[str, list[float]], difference: float = 0.0) -> list[tuple[str, str]]:
    import importlib

    module = importlib.import_module("gapbench.bench.compare")
    asked = []

    def fake(name: str, side: str, seconds: float, threads: int) -> dict[str, float]:
        asked.append((name, side))
        if side == "gate":
            return {"difference": difference}
        return {"images_per_second": values[side].pop(0), "update_ms": 1.0}

    monkeypatch.setattr(module, "_measure", fake)
    monkeypatch.setattr(module.psutil, "cpu_percent", lambda interval: 0.0)
    return asked


@pytest.mark.parametrize("name", ["f1", "c1", "digits-stack"])
def test_both_sides_of_a_case_compute_the_same_first_losses(name):
    done = subprocess.run(
        [sys.executable, "-m", "gapbench.bench.measure", name, "gate", "0", "1"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["difference"] < 1e-3


@pytest.mark.parametrize("side", ["ours", "plain"])
def test_a_side_is_timed_in_a_process_of_its_own(side):
    done = subprocess.run(
        [sys.executable, "-m", "gapbench.bench.measure", "digits-stack", side, "0.2", "1"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["images_per_second"] == pytest.approx(16 * 8 * 1e3 / result["update_ms"])


def test_the_data_loader_side_trains():
    done = subprocess.run(
        [sys.executable, "-m", "gapbench.bench.measure", "f1", "plain", "0.2", "1"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["images_per_second"] > 0


def test_sides_take_turns_and_the_ratio_is_the_median_of_rounds(monkeypatch):
    asked = measurements(monkeypatch, {"ours": [10.0, 40.0, 30.0], "plain": [10.0, 10.0, 10.0]})
    report = compare(["f1"], rounds=3)
    assert [side for _, side in asked] == ["gate", "ours", "plain", "plain", "ours", "ours", "plain"]
    assert report.rows[0].ratios == (1.0, 4.0, 3.0)
    assert report.rows[0].ratio == 3.0
    assert report.warnings == ()


def test_nothing_is_timed_where_the_sides_differ_or_the_case_is_unknown(monkeypatch):
    asked = measurements(monkeypatch, {}, difference=0.5)
    with pytest.raises(GapbenchError, match="differ by 5"):
        compare(["f1"])
    assert asked == [("f1", "gate")]
    with pytest.raises(GapbenchError, match='did you mean "resnet44"'):
        compare(["resnet4"])


def test_every_case_has_specs_that_share_a_program():
    from gapbench.cost import program_key

    for case in CASES.values():
        assert len({program_key(spec) for spec in case.specs()}) == 1
