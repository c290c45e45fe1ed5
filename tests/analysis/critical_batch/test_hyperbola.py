from __future__ import annotations

import numpy as np
import pytest

from gapbench.analysis.critical_batch.hyperbola import FitError, Hyperbola, fit_hyperbola, read_off
from gapbench.catalog import published as published

SIZES = 32.0 * 2.0 ** np.arange(10)

# What other fits of the same series gave: S_min, B_crit with its interval, spread of the logarithms, exponent of the knee.
KNOWN = {
    "85M": (1267, (2235, 1884, 2652), 0.066, 1.30),
    "151M": (1710, (3303, 2671, 4086), 0.078, 1.53),
    "302M": (2095, (5433, 4723, 6249), 0.046, 1.17),
    "604M": (2460, (7907, 6654, 9395), 0.050, 1.26),
    "1.2B": (3895, (11140, 9388, 13218), 0.043, 0.81),
}


def hyperbola(critical: float, least: float, sizes: np.ndarray = SIZES) -> np.ndarray:
    return least * (1 + critical / sizes)


@pytest.mark.parametrize("name", KNOWN)
def test_the_published_series_give_their_critical_batch_sizes_within_one_percent(name: str) -> None:
    own = published.steps("zhang2024")[name]
    found = fit_hyperbola(own.batch_sizes, own.steps)
    least, critical, spread, knee = KNOWN[name]
    assert found.smallest_steps.value == pytest.approx(least, rel=0.01)
    interval = found.critical_batch
    assert (interval.value, interval.low, interval.high) == pytest.approx(critical, rel=0.01)
    assert found.overhead_batch == pytest.approx(critical[0] / 5, rel=0.01)
    assert found.residual == pytest.approx(spread, abs=0.001)
    assert found.knee.value == pytest.approx(knee, rel=0.01)


def test_exact_points_give_the_truth() -> None:
    found = fit_hyperbola(SIZES, hyperbola(1000.0, 2000.0))
    assert (found.critical_batch.value, found.smallest_steps.value) == pytest.approx((1000.0, 2000.0), rel=1e-9)
    assert found.smallest_examples == pytest.approx(2e6)
    assert found.residual < 1e-9
    assert not found.extrapolated


def coverage(sizes: np.ndarray, noise: float, seeds: int, draws: int = 2000) -> float:
    """Share of draws whose interval holds the truth."""
    random = np.random.default_rng(1)
    points = np.repeat(sizes, seeds)
    logs = np.log(hyperbola(1000.0, 2000.0, points)) + noise * random.standard_normal((draws, len(points)))
    inside = 0
    for draw in np.exp(logs):
        found = fit_hyperbola(points, draw, knee=False).critical_batch
        inside += found.low <= 1000.0 <= found.high
    return inside / draws


@pytest.mark.parametrize(("noise", "seeds"), [(0.03, 1), (0.10, 1), (0.10, 3)])
def test_intervals_hold_the_truth_as_often_as_they_say(noise: float, seeds: int) -> None:
    assert 0.93 <= coverage(SIZES, noise, seeds) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_truth_where_runs_of_a_batch_size_share_the_error_of_its_rate(seeds: int) -> None:
    random, sizes = np.random.default_rng(5), SIZES
    inside = 0
    for _ in range(2000):
        common = 0.06 * random.standard_normal(len(sizes))
        logs = np.log(hyperbola(1000.0, 2000.0))[:, None] + common[:, None] + 0.08 * random.standard_normal((len(sizes), seeds))
        found = fit_hyperbola(np.repeat(sizes, seeds), np.exp(logs).ravel(), knee=False).critical_batch
        inside += found.low <= 1000.0 <= found.high
    assert 0.93 * 2000 <= inside <= 0.97 * 2000


def test_steps_far_from_where_a_hyperbola_bends_are_refused_in_words() -> None:
    with pytest.raises(FitError, match="critical one is not determined"):
        fit_hyperbola([1e-3, 2e-3, 4e-3], 1 / np.array([1e-3, 2e-3, 4e-3]) ** 3)


def test_a_batch_size_read_off_exact_steps_is_where_examples_are_that_many_times_the_least() -> None:
    sizes = 1000.0 * np.geomspace(1e-3, 1e3, 2001)
    steps = hyperbola(1000.0, 2000.0, sizes)
    found = read_off(sizes, steps, 1.0)
    assert found.value == pytest.approx(1000.0, rel=0.003)  # twice the least examples of a hyperbola: its critical batch size
    assert read_off(sizes, steps, 0.2).value == pytest.approx(200.0, rel=0.01)
    assert np.isnan(found.low)  # one run each
    assert read_off(sizes[:500], steps[:500], 1.0) is None


def test_the_interval_of_a_batch_size_that_is_read_off_covers_what_many_runs_would_give() -> None:
    random = np.random.default_rng(6)
    exact = read_off(SIZES, hyperbola(1000.0, 2000.0), 1.0).value
    inside = 0
    for _ in range(1000):
        logs = np.log(hyperbola(1000.0, 2000.0))[:, None] + 0.05 * random.standard_normal((len(SIZES), 3))
        found = read_off(np.repeat(SIZES, 3), np.exp(logs).ravel(), 1.0)
        inside += found.low <= exact <= found.high
    assert 0.92 * 1000 <= inside <= 0.98 * 1000


def test_a_knee_is_recovered_and_a_sharp_one_rejects_the_hyperbola() -> None:
    random = np.random.default_rng(2)
    steps = 2000.0 * (1 + (1000.0 / SIZES) ** 2.0) ** (1 / 2.0)
    found = fit_hyperbola(np.repeat(SIZES, 3), np.repeat(steps, 3) * np.exp(0.03 * random.standard_normal(30)))
    assert found.knee.low < 2.0 < found.knee.high
    assert found.rejected


def test_a_true_hyperbola_is_rejected_in_about_one_of_twenty_draws() -> None:
    random = np.random.default_rng(3)
    points = np.repeat(SIZES, 3)
    logs = np.log(hyperbola(1000.0, 2000.0, points)) + 0.05 * random.standard_normal((300, len(points)))
    assert 0.02 <= np.mean([fit_hyperbola(points, draw).rejected for draw in np.exp(logs)]) <= 0.09


def test_fits_of_a_critical_batch_beyond_the_range_are_called_extrapolated() -> None:
    def fit(sizes: np.ndarray) -> Hyperbola:
        return fit_hyperbola(sizes, hyperbola(1000.0, 2000.0, sizes))

    small, large = fit(32.0 * 2.0 ** np.arange(6)), fit(1024.0 * 2.0 ** np.arange(5))
    assert small.extrapolated
    assert small.above == 0
    assert large.extrapolated
    assert large.below == 0


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [([64, 128], [10, 6]), ([64, 64, 64, 128], [10, 10, 9, 6]), ([64, 128, 0], [10, 6, 5]), ([64, 128, 256], [10, 6, float("nan")])],
)
def test_points_that_fit_no_hyperbola_are_errors(sizes: list[float], steps: list[float]) -> None:
    with pytest.raises(FitError):
        fit_hyperbola(sizes, steps)
