"""Noise scales and critical batch sizes from a real run of a suite with targets, end to end."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from gapbench import api
from gapbench.analysis.critical_batch.targets import TargetError
from gapbench.api.analyzing import AnalysisError
from gapbench.core.errors import SuiteError

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
schema = 1
name = "noisy"
[run]
recipe = "digits"
model = { widths = [32], norm = "none" }
phases = [{ start = 0.0 }]
split_seed = 0
epochs = 2
budget = { kind = "updates" }
evaluations = 40
probes = [{ name = "noise_scale", at = [0, 0.05, 0.2, 1], examples = 256 }, { name = "noise_scale_stream", pieces = 4 }]
learning_rate = 0.05
[grid]
batch_size = [16, 64, 256]
seed = "0..1"
[report]
targets = [{ metric = "train_loss", value = 1.0 }]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noisy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GAPBENCH_CACHE", str(folder / "cache"))
        patch.setattr("gapbench.report.drawings", lambda _: {})
        (folder / "noisy.toml").write_text(SUITE)
        done = api.run("noisy.toml", devices="cpu")
        assert done.exit_status == 0, done.frame()[["cell", "outcome", "reason"]]
    return folder / "results" / "noisy"


def test_noise_scales_of_both_probes(results: Path, tmp_path: Path) -> None:
    found = api.analyze("noise-scale", results)
    frame = found.frames["noise"]
    probed = frame[frame["mode"] == "probe"]
    assert probed.groupby("run_id").size().tolist() == [4] * 6
    assert set(frame[frame["mode"] == "stream"].batch_size) == {16, 64, 256}
    start = probed[probed["update"] == 0].groupby("seed").noise_scale.nunique()
    assert (start == 1).all()  # the same weights and examples at every batch size
    assert (probed.trace > 0).all()
    assert isinstance(found.figures["noise_scale"], Figure)
    assert sorted(path.name for path in found.write(tmp_path / "noise")) == [
        "noise-scale.md", "noise.csv", "noise_scale.png", "noise_scale.svg",
    ]  # fmt: skip


def test_the_noise_scale_of_some_runs(results: Path) -> None:
    whole = api.analyze("noise-scale", results).frames["noise"]
    found = api.analyze("noise-scale", results, only="batch_size=64,seed=1")
    expected = whole[(whole["batch_size"] == 64) & (whole["seed"] == 1)]
    assert len(found.frames["noise"]) == len(expected) > 0
    assert set(found.frames["noise"]["run_id"]) == set(expected["run_id"])
    assert all("seed 1" in sentence or "seed" not in sentence for sentence in found.sentences)
    with pytest.raises(SuiteError, match="no run has batch_size"):
        api.analyze("noise-scale", results, only="batch_size=65")


def test_the_critical_batch_of_the_suites_target_and_of_another(results: Path) -> None:
    found = api.analyze("critical-batch", results)
    passages = found.frames["passages"]
    assert len(passages) == 6
    assert passages.steps.notna().all()
    (fit,) = found.frames["fits"].to_dict("records")
    assert fit["target"] == "train loss 1"
    assert fit["critical_batch_20_percent"] == pytest.approx(fit["critical_batch"] / 5)
    assert set(found.frames["predictions"].columns) > {"predicted", "predicted_naive", "counts"}
    other = api.analyze("critical-batch", results, targets=["train_error=0.3", "test_loss=0.9"])
    assert set(other.frames["fits"].target) == {"train error 0.3", "test loss 0.9"}
    with pytest.raises(TargetError, match="between 0 and 1"):
        api.analyze("critical-batch", results, targets=["test_error=30"])
    with pytest.raises(TargetError, match="METRIC=VALUE"):
        api.analyze("critical-batch", results, targets=["train_loss"])


def test_the_report_has_the_table_of_the_target(results: Path) -> None:
    table = pd.read_csv(results / "tables" / "targets.csv")
    assert (table.reached == 2).all()
    passages = api.analyze("critical-batch", results).frames["passages"]
    for row in table.itertuples():
        own = passages[passages.batch_size == row.batch_size].steps
        assert own.min() <= row.steps <= own.max()
    assert 'id="targets"' in (results / "report.html").read_text(encoding="utf-8")


def test_results_without_a_target_say_how_to_name_one() -> None:
    with pytest.raises(AnalysisError, match="names no target; say one, such as --target"):
        api.analyze("critical-batch", ROOT / "results" / "reference" / "quickstart")


def test_results_without_the_probes_say_which_to_name() -> None:
    found = api.analyze("noise-scale", ROOT / "results" / "reference" / "quickstart")
    assert "name the probe noise_scale" in found.sentences["noise scale"][0]
