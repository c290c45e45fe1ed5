"""The landscape experiment's analysis recovers exponents and predictions that are known, with the errors that it states."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.frames import Study
from gapbench.analysis.landscape import binned, landscape_study, sharpness_study, spread_exponent
from gapbench.report.figures import Figures
from gapbench.report.landscape import landscape_drawings
from gapbench.report.pages import write_analysis
from gapbench.suite.runspec import Component


def rows_of(run_id: str, update: int, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Curve rows; a metric of several numbers has one a layer."""
    return [
        (run_id, update, 16 * update, metric, "" if np.ndim(value) == 0 else str(number), float(one))
        for metric, value in values.items()
        for number, one in enumerate(np.atleast_1d(value))
    ]


def losses(generator: np.random.Generator, distances: Any, exponent: float, slope: float = 0.02, curvature: float = 0.01) -> Any:
    return 2.0 + 0.5 * curvature * distances**2 + slope * distances**exponent * generator.standard_normal(len(distances))


def tables(
    synthetic: ModuleType, *, exponent: float, seeds: int, directions: int = 200, draw: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, curves = [], []
    for seed in range(seeds):
        row = synthetic.run_row("SB", seed, reference_cell=True)
        rows.append(row)
        generator = np.random.default_rng([draw, seed])
        distances = generator.uniform(0, 5, directions)
        values = {"landscape_center": 2.0, "landscape_floor": 1e-8, "landscape_distance": distances}
        for kind in ("landscape", "landscape_filter"):
            values |= {f"{kind}_loss": losses(generator, distances, exponent), f"{kind}_slope": 0.02, f"{kind}_curvature": 0.01}
            values |= {f"{kind}_curvature_error": 0.001}
        curves += rows_of(row["run_id"], 0, values)
    return pd.DataFrame(rows), pd.DataFrame(curves, columns=["run_id", "update", "examples", "metric", "layer", "value"])


def found(synthetic: ModuleType, specs: dict[str, Any] | None = None, **options: Any) -> Study:
    return landscape_study("made", *tables(synthetic, **options), specs or {})


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_exponents_are_recovered_with_the_stated_error(synthetic: ModuleType, exponent: float) -> None:
    fits = found(synthetic, exponent=exponent, seeds=100).frames["fits"]
    assert len(fits) == 200
    scores = (fits.exponent - exponent) / fits.exponent_error
    assert abs(scores.mean()) < 0.25
    assert 0.85 < scores.std() < 1.15


def test_what_is_measured_stands_beside_what_is_predicted(synthetic: ModuleType) -> None:
    study = found(synthetic, exponent=1.0, seeds=100)
    bins = study.frames["bins"]
    assert (bins.standard_deviation / bins.first_order).mean() == pytest.approx(1.0, abs=0.03)
    far = bins[bins["bin"] >= 7]
    assert (far.rise / far.second_order).mean() == pytest.approx(1.0, abs=0.04)
    assert study.frames["fits"].spread_ratio.mean() == pytest.approx(1.0, abs=0.02)


def test_a_rising_mean_adds_no_spread() -> None:
    distances = np.linspace(0.01, 5, 400)
    bins = binned(distances, 2.0 + 0.3 * distances**2, 2.0, 10)
    assert bins.deviation.max() < 1e-12
    assert bins.losses.sum() == 400
    assert bins.distance[0] == pytest.approx(np.sqrt(np.mean(distances[:40] ** 2)), rel=0.01)


def test_the_floor_is_subtracted() -> None:
    generator = np.random.default_rng(0)
    distances = generator.uniform(0, 5, 20000)
    noisy = losses(generator, distances, 1.0, slope=0.002) - 2.0 + 0.003 * generator.standard_normal(20000)
    ignored, subtracted = (spread_exponent(distances, noisy, floor) for floor in (1e-9, 0.003))
    assert not ignored[0] > 0.6  # or no power at all
    assert subtracted[0] == pytest.approx(1.0, abs=4 * subtracted[1])
    assert subtracted[1] < 0.05


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_interval_of_one_run_covers_as_often_as_it_says(exponent: float) -> None:
    scores = []
    for draw in range(500):
        generator = np.random.default_rng([draw, 7])
        distances = generator.uniform(0, 5, 200)
        value, error = spread_exponent(distances, losses(generator, distances, exponent) - 2.0, 1e-8)
        scores.append((value - exponent) / error)
    assert np.mean(np.abs(scores) < 1.96) == pytest.approx(0.95, abs=0.03)
    assert abs(np.mean(scores)) < 0.2


def test_losses_without_spread_have_no_exponent() -> None:
    distances = np.linspace(0, 5, 50)
    assert np.isnan(spread_exponent(distances, 1e-9 * np.cos(1e5 * distances), 1e-8)[0])


def test_the_interval_over_runs_covers_and_sentences_say_what_separates(synthetic: ModuleType) -> None:
    from gapbench.analysis.landscape import _exponent

    covered = []
    for draw in range(150):
        study = found(synthetic, exponent=1.0, seeds=3, draw=draw)
        ((*cells,),) = study.parts.values()
        interval, _ = _exponent([one for one in cells if one.kind == "uniform"])
        covered.append(interval.low <= 1.0 <= interval.high)
    assert 0.88 < np.mean(covered) <= 1.0
    (texts,) = found(synthetic, exponent=2.0, seeds=3).sentences.values()
    assert "; first order has 1). It is" in texts[0]
    (texts,) = found(synthetic, exponent=1.0, seeds=10).sentences.values()
    assert "(n = 10 runs; first order has 1). It is" in texts[0]
    (texts,) = found(synthetic, exponent=1.0, seeds=1).sentences.values()
    assert "(n = 1 run; interval over directions; first order has 1)" in texts[0]
    assert texts[-1].startswith("A spread linear in distance is what any differentiable loss has")


def test_without_landscapes_a_sentence_says_how_to_get_them(synthetic: ModuleType) -> None:
    runs, _ = tables(synthetic, exponent=1.0, seeds=1)
    empty = pd.DataFrame({name: [] for name in ("run_id", "update", "examples", "metric", "layer", "value")})
    (texts,) = landscape_study("made", runs, empty, {}).sentences.values()
    assert texts[0].startswith("No run has measured its landscape")
    (texts,) = sharpness_study("made", runs, empty, {}).sentences.values()
    assert texts[0].startswith("No run that ended ok has measured sharpness")


def test_the_figure_shows_the_frames_and_files_are_whole(synthetic: ModuleType, tmp_path: Any, spec: Any) -> None:
    runs, curves = tables(synthetic, exponent=1.0, seeds=2)
    asked = Component(name="landscape", options={"norm": "running", "examples": 64, "at": [0.0]})
    study = landscape_study("made", runs, curves, {run_id: spec(probes=(asked,)) for run_id in runs.run_id})
    (texts,) = study.sentences.values()
    assert texts[0].startswith("SB, before training, uniform directions to distance 4.99 (norm statistics running, up to 64 fixed")
    figure = Figures(landscape_drawings(study.parts))["landscape"]
    line = figure.axes[0].get_lines()[0]
    bins = study.frames["bins"]
    own = bins[(bins.run_id == runs.run_id[0]) & (bins.directions == "uniform")]
    assert line.get_ydata() == pytest.approx(own.standard_deviation.to_numpy())
    files = write_analysis("landscape", "made", study.sentences, study.frames, landscape_drawings(study.parts), tmp_path / "out")
    assert [file.name for file in files] == ["bins.csv", "fits.csv", "landscape.md", "landscape.png", "landscape.svg"]


def test_sharpness_is_told_with_its_loss_and_its_share_of_the_edge(synthetic: ModuleType, spec: Any) -> None:
    rows = [synthetic.run_row("SB", seed, reference_cell=True) for seed in range(3)]
    values = [{"hessian_loss": 0.1, "hessian_top": 30.0 + seed, "hessian_edge": 0.8, "hessian_trace": 100.0} for seed in range(3)]
    curves = [one for row, value in zip(rows, values, strict=True) for one in rows_of(row["run_id"], 15, value)]
    table = pd.DataFrame(curves, columns=["run_id", "update", "examples", "metric", "layer", "value"])
    specs = {row["run_id"]: spec(probes=("hessian",), keep_weights=(0.5,)) for row in rows}
    table["update"] = 844  # of 1,687
    study = sharpness_study("made", pd.DataFrame(rows), table, specs)
    (texts,) = study.sentences.values()
    assert texts[0] == (
        "SB, at 50 % of training (norm statistics train, up to 2,048 fixed training examples, n = 3): top Hessian eigenvalue 31 "
        "(28.5 to 33.5), which is 0.8 (0.8 to 0.8) of the edge of stability 2 (1 + momentum) / learning rate, trace 100 (100 to 100), "
        "at loss 0.1 (0.1 to 0.1)."
    )
    frame = study.frames["sharpness"]
    assert frame.set_index("metric").value["hessian_top"] == 31.0
    assert set(frame.n) == {3}
