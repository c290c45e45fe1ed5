"""Noise scales: estimates against the obvious slow versions, along a run from its curves, and of a whole suite."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.curves import Curves
from gapbench.analysis.frames import Study
from gapbench.analysis.noise_scale import (
    COLUMNS,
    WINDOW,
    Blocks,
    Noise,
    Scale,
    effective_dimension,
    loss_at,
    probed_noise,
    scale_of_blocks,
    scale_of_series,
    squared_gradient,
    streamed_noise,
    study,
    trace_of_covariance,
)
from tests.analysis.noise_scale import made as noise_made

DIMENSIONS = 40
RNG = np.random.default_rng(0)
MEAN = RNG.standard_normal(DIMENSIONS) / np.sqrt(DIMENSIONS)
SPREAD = np.exp(RNG.standard_normal(DIMENSIONS))
"""Standard deviations of single examples' gradients along each axis."""
TRACE, SQUARE = float((SPREAD**2).sum()), float(MEAN @ MEAN)


def gradients(draws: int, count: int, size: int, seed: int, mean: np.ndarray = MEAN) -> np.ndarray:
    """Mean gradients of micro-batches, [draw, micro-batch, dimension], Gaussian."""
    noise = np.random.default_rng(seed).standard_normal((draws, count, DIMENSIONS))
    return mean + noise * SPREAD / np.sqrt(size)


def sums(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (found**2).sum(axis=2).mean(axis=1), (found.mean(axis=1) ** 2).sum(axis=1)


def blocks_of(found: np.ndarray, size: int, blocks: int) -> Blocks:
    """One measurement [micro-batch, dimension], in blocks."""
    groups = found.reshape(blocks, -1, found.shape[1])
    means = groups.mean(axis=1)
    return Blocks(size, len(found), (groups**2).sum(axis=2).mean(axis=1), means @ means.T)


def test_the_estimates_are_the_two_batch_form_of_the_paper() -> None:
    size, count = 8, 6
    s, q = sums(gradients(20, count, size, 1))
    small, large = size, size * count
    square = (large * q - small * s) / (large - small)
    trace = (s - q) / (1 / small - 1 / large)
    assert squared_gradient(s, q, count) == pytest.approx(square, rel=1e-10, abs=1e-10)
    assert trace_of_covariance(s, q, size, count) == pytest.approx(trace, rel=1e-10)


def test_the_square_is_the_mean_product_of_different_micro_batches() -> None:
    (found,) = gradients(1, 5, 4, 2)
    products = found @ found.T
    pairs = products[~np.eye(5, dtype=bool)]
    s, q = sums(found[None])
    assert squared_gradient(s, q, 5)[0] == pytest.approx(pairs.mean())


@pytest.mark.parametrize(("size", "count"), [(1, 2), (4, 2), (8, 16)])
def test_both_are_unbiased_on_gaussian_gradients(size: int, count: int) -> None:
    s, q = sums(gradients(20_000, count, size, 3))
    for found, truth in ((trace_of_covariance(s, q, size, count), TRACE), (squared_gradient(s, q, count), SQUARE)):
        assert abs(found.mean() - truth) < 4 * found.std() / np.sqrt(len(found))


def test_their_variances_are_those_of_theory() -> None:
    size, count = 8, 8
    s, q = sums(gradients(20_000, count, size, 4))
    fourth, along = float((SPREAD**4).sum()), float(((MEAN * SPREAD) ** 2).sum())
    assert trace_of_covariance(s, q, size, count).var() == pytest.approx(2 * fourth / (count - 1), rel=0.06)
    expected = 4 * along / (size * count) + 2 * fourth / (size**2 * count * (count - 1))
    assert squared_gradient(s, q, count).var() == pytest.approx(expected, rel=0.06)


def test_leaving_out_a_block_is_measuring_without_it() -> None:
    (found,) = gradients(1, 24, 4, 5)
    _, _, traces, squares = blocks_of(found, 4, 6).estimates()
    rest = np.delete(found.reshape(6, 4, -1), 2, axis=0).reshape(20, -1)
    s, q = sums(rest[None])
    assert traces[2] == pytest.approx(trace_of_covariance(s, q, 4, 20)[0])
    assert squares[2] == pytest.approx(squared_gradient(s, q, 20)[0])


def holds(scale: Scale, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return scale.low <= truth and (scale.high is None or truth <= scale.high)


@pytest.mark.parametrize(
    ("factor", "size", "count", "unbounded"), [(3.0, 32, 128, (0.0, 0.01)), (0.25, 16, 64, (0.5, 1.0))], ids=["far from zero", "near zero"]
)
def test_intervals_of_one_measurement_hold_the_truth_and_say_at_least_near_a_vanishing_gradient(
    factor: float, size: int, count: int, unbounded: tuple[float, float]
) -> None:
    found = [scale_of_blocks(blocks_of(one, size, 16)) for one in gradients(2000, count, size, 6, factor * MEAN)]
    assert 0.93 <= np.mean([holds(scale, TRACE / (factor**2 * SQUARE)) for scale in found]) <= 0.97
    assert unbounded[0] <= np.mean([scale.high is None for scale in found]) <= unbounded[1]


def test_intervals_of_a_series_of_small_measurements_hold_the_truth() -> None:
    size, count, measurements = 32, 4, 50
    s, q = sums(gradients(2000 * measurements, count, size, 7, 2.0 * MEAN))
    traces = trace_of_covariance(s, q, size, count).reshape(2000, measurements)
    squares = squared_gradient(s, q, count).reshape(2000, measurements)
    truth = TRACE / (4.0 * SQUARE)
    found = [scale_of_series(trace, square) for trace, square in zip(traces, squares, strict=True)]
    assert 0.93 <= np.mean([holds(scale, truth) for scale in found]) <= 0.97


def test_the_ratio_of_means_is_right_and_the_mean_of_ratios_is_not() -> None:
    size, count, measurements = 32, 2, 200
    s, q = sums(gradients(100 * measurements, count, size, 8))
    traces, squares = trace_of_covariance(s, q, size, count), squared_gradient(s, q, count)
    truth = TRACE / SQUARE
    ratios = [scale_of_series(*pair).value for pair in zip(traces.reshape(100, -1), squares.reshape(100, -1), strict=True)]
    assert np.median(ratios) == pytest.approx(truth, rel=0.1)
    assert abs((traces / squares).reshape(100, -1).mean(axis=1) / truth - 1).mean() > 0.3
    assert (squares <= 0).mean() > 0.05


def test_one_measurement_alone_has_no_interval() -> None:
    scale = scale_of_series(np.array([10.0]), np.array([2.0]))
    assert (scale.value, scale.low, scale.high) == (5.0, None, None)


def test_the_populations_gradient_is_that_of_the_data_set_less_its_noise() -> None:
    (found,) = gradients(1, 64, 8, 9)
    blocks = blocks_of(found, 8, 8)
    dataset, population = scale_of_blocks(blocks), scale_of_blocks(blocks, subtract=1 / 1000)
    assert population.square == pytest.approx(dataset.square - dataset.trace / 1000)
    assert population.value > dataset.value


def test_the_effective_dimension_is_found() -> None:
    fourth = float((SPREAD**4).sum())
    found = np.array([blocks_of(one, 16, 16).square_of_covariance() for one in gradients(4000, 32, 16, 10)])
    assert abs(found.mean() - fourth) < 4 * found.std() / np.sqrt(len(found))
    trace = scale_of_blocks(blocks_of(gradients(1, 4096, 16, 11)[0], 16, 64)).trace
    assert effective_dimension(trace, fourth) == pytest.approx(TRACE**2 / fourth, rel=0.1)
    assert effective_dimension(trace, -1.0) is None


MEASUREMENTS = 400


def curves_of(rows: list[dict[str, Any]]) -> Curves:
    return Curves(pd.DataFrame(rows))


def streamed_at(updates: range, seed: int, cut: bool = True) -> list[Noise]:
    random, data = np.random.default_rng(seed), noise_made.data_set(0)
    rows = [row for update in updates for row in noise_made.stream_rows("a", update, data, random, 16, 4, cut=cut)]
    return streamed_noise(curves_of(rows), "a", 64, noise_made.EXAMPLES)


@pytest.fixture(scope="module")
def probed():
    """Many measurements of probe mode on one data set, and its gradients."""
    data, random = noise_made.data_set(0), np.random.default_rng(1)
    rows = [row for update in range(1, MEASUREMENTS + 1) for row in noise_made.probe_rows("a", update, data, random, 8, 8)]
    return probed_noise(curves_of(rows), "a", noise_made.EXAMPLES), data


@pytest.fixture(scope="module")
def streamed():
    """The same of stream mode, whose batches are drawn without replacement."""
    return streamed_at(range(1, MEASUREMENTS * WINDOW + 1), seed=2), noise_made.data_set(0)


def near(values: np.ndarray, truth: float) -> bool:
    """Whether a mean is within four standard errors of the truth, and these are small enough to tell."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return bool(abs(values.mean() - truth) < 4 * error)


@pytest.mark.parametrize("mode", ["probed", "streamed"])
def test_both_modes_give_the_gradient_of_the_data_set_and_that_of_its_population(mode: str, request: pytest.FixtureRequest) -> None:
    found, rows = request.getfixturevalue(mode)
    dataset, population = (np.array([getattr(one, which).square for one in found]) for which in ("dataset", "population"))
    square, trace = float((rows.mean(0) ** 2).sum()), float(rows.var(0, ddof=1).sum())
    share = trace / noise_made.EXAMPLES
    assert share > 10 * dataset.std() / np.sqrt(len(dataset))  # the two are told apart
    assert near(dataset, square)
    assert near(population, square - share)


def test_over_many_data_sets_the_populations_gradient_is_the_populations() -> None:
    random = np.random.default_rng(3)
    probed, streamed = [], []
    for seed in range(150):
        rows = noise_made.data_set(seed)
        table = [*noise_made.probe_rows("a", 1, rows, random, 8, 16)]
        for update in range(1, WINDOW + 1):
            table += noise_made.stream_rows("b", update, rows, random, 16, 4, cut=False)
        curves = curves_of(table)
        probed += probed_noise(curves, "a", noise_made.EXAMPLES)
        streamed += streamed_noise(curves, "b", 64, noise_made.EXAMPLES)
    for found in (probed, streamed):
        assert near(np.array([one.population.square for one in found]), noise_made.SQUARE)
        assert not near(np.array([one.dataset.square for one in found]), noise_made.SQUARE)
        assert near(np.array([one.dataset.trace for one in found]), noise_made.TRACE * (1.0 if found is streamed else 1 - 1 / 400))


def test_a_probed_point_says_how_it_was_measured(probed) -> None:
    found, _ = probed
    assert len(found) == MEASUREMENTS
    first = found[0]
    assert (first.mode, first.update, first.size, first.count, first.dataset.n) == ("probe", 1.0, 8.0, 64.0, noise_made.BLOCKS)
    dimension = float((noise_made.SPREAD**2).sum()) ** 2 / float((noise_made.SPREAD**4).sum())
    assert np.median([one.dimension for one in found if one.dimension]) == pytest.approx(dimension, rel=0.2)


def test_intervals_hold_the_noise_scale_of_the_data_set(probed, streamed) -> None:
    for found, rows in (probed, streamed):
        truth = float(rows.var(0).sum() / (rows.mean(0) ** 2).sum())
        assert np.mean([holds(one.dataset, truth) for one in found]) > 0.9


def test_stream_measurements_are_taken_so_many_at_a_time_and_what_is_left_over_is_left_out() -> None:
    updates = range(1, 2 * WINDOW + 4)
    found = streamed_at(updates, seed=4)
    assert [one.dataset.n for one in found] == [WINDOW, WINDOW]
    assert found[0].update == pytest.approx(np.exp(np.log(updates[:WINDOW]).mean()))
    assert (found[0].size, found[0].count) == (16.0, 4.0)


def test_where_training_cuts_the_batch_the_gradients_norm_stands_for_the_mean() -> None:
    cut, whole = (streamed_at(range(1, WINDOW + 1), seed=5, cut=cut)[0].dataset.value for cut in (True, False))
    assert cut == pytest.approx(whole, rel=1e-9)


def test_without_measurements_there_is_nothing() -> None:
    curves = curves_of([*noise_made.loss_rows("a", 10)])
    assert probed_noise(curves, "a", 100) == []
    assert streamed_noise(curves, "a", 64, 100) == []


@pytest.fixture(scope="module")
def found() -> Study:
    """Two cells: one probed and streamed, one streamed only."""
    return noise_made.made_study(probed=(64,))


def test_every_run_has_a_sentence_from_its_best_mode(found: Study) -> None:
    ((title, sentences),) = found.sentences.items()
    assert title.startswith("digits, mlp")
    assert sentences[0].startswith("B 64, seed 0 (weights standing still): noise scale ")
    assert "at update 0, " in sentences[0]
    assert sentences[0].count("(95 % interval ") == 2
    assert "at update 100; its noise lies in about " in sentences[0]
    assert sentences[1].startswith("B 256, seed 0 (along training): ")


def test_the_frame_has_a_row_for_every_measurement(found: Study) -> None:
    frame = found.frames["noise"]
    assert [*frame.columns] == [*COLUMNS]
    assert frame.groupby(["batch_size", "mode"]).size().to_dict() == {(64, "probe"): 3, (64, "stream"): 2, (256, "stream"): 2}
    probe = frame[frame["mode"] == "probe"]
    assert [*probe["examples"]] == [0, 640, 6400]
    assert probe["trace"].to_numpy() == pytest.approx(noise_made.TRACE, rel=0.1)
    assert (probe["noise_scale_low"] < probe["noise_scale"]).all()
    assert (frame["squared_gradient_population"] < frame["squared_gradient"]).all()
    assert frame["noise_scale"].to_numpy(float) == pytest.approx((frame["trace"] / frame["squared_gradient"]).to_numpy(float))


def test_train_loss_stands_beside_it_where_it_was_evaluated(found: Study) -> None:
    probe = found.frames["noise"].query("mode == 'probe'").set_index("update").train_loss
    assert np.isnan(probe[0])
    assert (probe[10], probe[100]) == (pytest.approx(2 / 10**0.5, rel=0.01), pytest.approx(0.2))
    assert loss_at(None, 5.0) is None
    assert loss_at(found.parts[0].loss, 101.0) is None


def test_where_the_gradient_vanishes_it_says_at_least_and_leaves_the_value_empty() -> None:
    study = noise_made.made_study(probed=(64,), mean=0.0)  # the data set's own gradient is zero
    (sentences,) = study.sentences.values()
    assert "at least " in sentences[0]
    assert "the interval of the squared gradient holds 0" in sentences[0]
    frame = study.frames["noise"]
    assert frame[frame["squared_gradient"] <= 0]["noise_scale"].isna().all()
    assert frame["noise_scale_high"].isna().any()


def test_without_the_probes_a_sentence_says_which_to_name(synthetic: ModuleType) -> None:
    found = study("made", *synthetic.digits_suite(1, only=["SB"]))
    assert found.sentences == {
        "noise scale": ["No run has measured it; name the probe noise_scale or noise_scale_stream in [run] of the suite."]
    }
    assert found.frames["noise"].empty
