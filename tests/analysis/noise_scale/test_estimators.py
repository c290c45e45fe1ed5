from __future__ import annotations

import numpy as np
import pytest

from gapbench.analysis.noise_scale import (
    Blocks,
    effective_dimension,
    scale_of_blocks,
    scale_of_series,
    squared_gradient,
    trace_of_covariance,
)

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


def coverage_of_blocks(mean: np.ndarray, size: int, count: int, blocks: int) -> tuple[float, float]:
    """Shares of 2,000 measurements whose interval holds the truth, and whose interval has no upper end."""
    truth = TRACE / float(mean @ mean)
    inside = unbounded = 0
    for found in gradients(2000, count, size, 6, mean):
        scale = scale_of_blocks(blocks_of(found, size, blocks))
        assert scale.low is not None
        inside += scale.low <= truth and (scale.high is None or truth <= scale.high)
        unbounded += scale.high is None
    return inside / 2000, unbounded / 2000


def test_intervals_of_one_measurement_hold_the_truth() -> None:
    covered, unbounded = coverage_of_blocks(3.0 * MEAN, 32, 128, 16)
    assert 0.93 <= covered <= 0.97
    assert unbounded < 0.01


def test_near_a_vanishing_gradient_the_interval_says_at_least() -> None:
    covered, unbounded = coverage_of_blocks(0.25 * MEAN, 16, 64, 16)
    assert 0.93 <= covered <= 0.97
    assert unbounded > 0.5


def test_intervals_of_a_series_of_small_measurements_hold_the_truth() -> None:
    size, count, measurements = 32, 4, 50
    s, q = sums(gradients(2000 * measurements, count, size, 7, 2.0 * MEAN))
    traces = trace_of_covariance(s, q, size, count).reshape(2000, measurements)
    squares = squared_gradient(s, q, count).reshape(2000, measurements)
    truth = TRACE / (4.0 * SQUARE)
    found = [scale_of_series(trace, square) for trace, square in zip(traces, squares, strict=True)]
    assert 0.93 <= np.mean([scale.low <= truth and (scale.high is None or truth <= scale.high) for scale in found]) <= 0.97


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
