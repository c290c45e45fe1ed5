"""`analyze` from real runs to sentences, frames and files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gapbench import api
from gapbench.analysis.critical_batch.targets import TargetError
from gapbench.api.analyzing import AnalysisError
from gapbench.core.errors import StoreError, SuiteError, UnknownNameError
from tests.small import trained

QUICKSTART = Path(__file__).resolve().parents[2] / "results" / "reference" / "quickstart"

SUITE = """
schema = 1
name = "orders"
[run]
recipe = "digits"
epochs = 0.6
phases = [{ start = 0.0 }]
init_seed = 0
split_seed = 0
evaluations = 2
probes = ["displacement_sketch", "weight_cosine"]
[grid]
batch_size = [16]
seed = "0..7"
"""


def test_eight_orders_of_one_initialization_have_drift_and_spread(own_folder: Path) -> None:
    trained(own_folder, SUITE)
    curves = api.load_results("orders").curves
    sketched = curves[curves.metric == "displacement_sketch"]
    assert sketched.groupby(["run_id", "update"]).layer.nunique().eq(256).all()
    length = curves[(curves.metric == "weight_distance") & (curves.layer == "")].set_index(["run_id", "update"]).value
    estimate = np.sqrt(sketched.assign(square=sketched.value**2).groupby(["run_id", "update"]).square.sum())
    assert np.abs(np.log(estimate / length[estimate.index])).max() < 0.25
    found = api.analyze("diffusion", "orders", first=3)
    (sentences,) = found.sentences.values()
    assert sum("spread between orders" in sentence for sentence in sentences) == 1
    walks = found.frames["walks"]
    assert set(walks.quantity) == {"distance", "total", "drift", "spread"}
    assert (walks.cosine_uncertain == 0).all()
    assert len(found.write("out")) == 14
    with pytest.raises(StoreError, match="exists already"):
        found.write("out")
    exported = api.export("orders", csv="csv")
    assert exported
    assert "displacement_sketch" not in Path("csv/curves.csv").read_text()


def test_results_without_sketches_are_analysed_as_far_as_they_go(own_folder: Path) -> None:
    shutil.copytree(QUICKSTART, own_folder / "results" / "quickstart")
    before = sorted(own_folder.rglob("*"))
    found = api.analyze("diffusion", "quickstart")
    assert any("drift and spread are not computed" in sentence for texts in found.sentences.values() for sentence in texts)
    assert repr(found).startswith("Analysis(diffusion of 'quickstart': ")
    assert isinstance(found.figures["weight_cosine"], Figure)
    assert "<li>" in found._repr_html_()
    assert sorted(own_folder.rglob("*")) == before


def test_the_papers_curves_are_analysed_by_name(own_folder: Path) -> None:
    found = api.analyze("diffusion", "published:hoffer2017")
    assert len(found.frames["exponents"]) == 12
    assert [path.name for path in found.write("paper")] == ["diffusion.md", "exponents.csv"]


def test_what_makes_no_sense_is_said(own_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r'unknown analysis "difusion" .did you mean "diffusion"'):
        api.analyze("difusion")
    with pytest.raises(AnalysisError, match="--last 5: must be greater than the first update, 9"):
        api.analyze("diffusion", first=9, last=5)
    with pytest.raises(AnalysisError, match="leave out --first"):
        api.analyze("diffusion", "published:hoffer2017", first=9)
    with pytest.raises(UnknownNameError, match='unknown paper "hofer2017"'):
        api.analyze("diffusion", "published:hofer2017")
    with pytest.raises(StoreError, match="holds no results yet"):
        api.analyze("diffusion")


AROUND = """
schema = 1
name = "around"
[run]
recipe = "digits"
batch_size = 16
epochs = 0.1
phases = [{ start = 0.0 }]
split_seed = 0
evaluations = 2
keep_weights = [0, 1]
probes = [
    { name = "landscape", directions = 50, examples = 64, curvature_directions = 2 },
    { name = "sharpness", subspace = 2, iterations = 2, examples = 64 },
    { name = "hessian", at = [1], examples = 64, trace_vectors = 2 },
]
[grid]
seed = [0, 1]
"""


def test_landscape_and_sharpness_of_a_run_are_analysed(own_folder: Path) -> None:
    trained(own_folder, AROUND)
    found = api.analyze("landscape", "around", bins=4)
    fits = found.frames["fits"]
    assert fits.groupby(["fraction", "directions"]).size().tolist() == [2, 2, 2, 2]
    assert fits.spread_ratio.between(0.5, 2).all()
    assert len(found.write("around-weights")) == 5
    found = api.analyze("sharpness", "around")
    values = found.frames["sharpness"].set_index(["fraction", "metric"]).value
    assert values[1.0, "sharpness"] > 0
    assert 0 < values[1.0, "hessian_edge"] < 1
    assert (0.0, "sharpness_filter") in values.index
    assert (0.0, "hessian_top") not in values.index
    with pytest.raises(AnalysisError, match="--bins 2: an exponent needs at least 3"):
        api.analyze("landscape", "around", bins=2)
    with pytest.raises(AnalysisError, match="name results of your own"):
        api.analyze("sharpness", "published:hoffer2017")


NOISY = """
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
    return trained(tmp_path_factory.mktemp("noisy"), NOISY)


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
        api.analyze("critical-batch", QUICKSTART)


def test_results_without_the_probes_say_which_to_name() -> None:
    found = api.analyze("noise-scale", QUICKSTART)
    assert "name the probe noise_scale" in found.sentences["noise scale"][0]
