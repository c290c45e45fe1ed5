"""`analyze` from a real run to sentences, frames and files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from gapbench import api
from gapbench.api.analyzing import AnalysisError
from gapbench.core.errors import StoreError, UnknownNameError

ROOT = Path(__file__).resolve().parents[2]

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


def test_eight_orders_of_one_initialization_have_drift_and_spread(own_folder: Path, no_figures: None) -> None:
    (own_folder / "orders.toml").write_text(SUITE)
    done = api.run("orders.toml", devices="cpu")
    assert done.exit_status == 0
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
    shutil.copytree(ROOT / "results" / "reference" / "quickstart", own_folder / "results" / "quickstart")
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


def test_landscape_and_sharpness_of_a_run_are_analysed(own_folder: Path, no_figures: None) -> None:
    probes = (
        'probes = [{ name = "landscape", directions = 50, examples = 64, curvature_directions = 2 }, '
        '{ name = "sharpness", subspace = 2, iterations = 2, examples = 64 }, '
        '{ name = "hessian", at = [1], examples = 64, trace_vectors = 2 }]'
    )
    text = SUITE.replace('"orders"', '"around"').replace("epochs = 0.6", "epochs = 0.1\nkeep_weights = [0, 1]").replace("0..7", "0..1")
    lines = [probes if line.startswith("probes") else line for line in text.splitlines()]
    (own_folder / "around.toml").write_text("\n".join(lines))
    assert api.run("around.toml", devices="cpu").exit_status == 0
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
