"""Intervals, differences, Holm and shares against scipy, and that they hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gapbench.analysis.stats import difference, holm, prediction_interval, share_closed, t_interval, t_quantile, two_sided_p

SAMPLES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(SAMPLES)
def test_t_interval_equals_scipy(values: list[float]) -> None:
    found = t_interval(values)
    assert found.n == len(values)
    error = stats.sem(values)
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), abs=1e-9)
        assert found.half_width == pytest.approx((high - low) / 2, abs=1e-9)


def test_one_value_has_a_mean_and_never_an_interval_and_no_value_nothing() -> None:
    found = t_interval([0.5])
    assert (found.mean, found.low, found.high, found.half_width) == (0.5, None, None, None)
    assert (t_interval([]), prediction_interval([0.5]), prediction_interval([])) == (None, None, None)


@pytest.mark.parametrize("degrees", [1, 2.37, 7, 400])
def test_quantiles_and_tails_equal_scipy(degrees: float) -> None:
    assert t_quantile(0.95, degrees) == pytest.approx(stats.t.ppf(0.975, degrees))
    assert two_sided_p(-1.7, degrees) == pytest.approx(2 * stats.t.sf(1.7, degrees))


@pytest.mark.parametrize("n", [3, 8])
def test_intervals_cover_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(0)
    draws, trials = rng.normal(1.0, 2.0, (2000, n + 1)), 2000
    mean_covered = run_covered = old_covers_new = 0
    for row in draws:
        interval, prediction = t_interval(row[:n]), prediction_interval(row[:n])
        mean_covered += interval.low <= 1.0 <= interval.high
        run_covered += prediction[0] <= row[n] <= prediction[1]
        old_covers_new += interval.low <= row[n] <= interval.high
    assert mean_covered / trials == pytest.approx(0.95, abs=0.015)
    assert run_covered / trials == pytest.approx(0.95, abs=0.015)
    # The interval of the mean is no place to look for a single new run.
    assert old_covers_new / trials < 0.90


def sample(values: object) -> dict[int, float]:
    return dict(enumerate(np.asarray(values, dtype=float).tolist()))


@pytest.mark.parametrize(("n_first", "n_second"), [(2, 2), (3, 8), (8, 8)])
def test_welch_equals_scipy(n_first: int, n_second: int) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(1, 1, n_first), rng.normal(0, 3, n_second)
    expected = stats.ttest_ind(first, second, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    found = difference(sample(first), sample(second), paired=False)
    assert found.method == "welch"
    assert found.n == min(n_first, n_second)
    assert (found.estimate, found.low, found.high, found.p_value) == pytest.approx(
        (first.mean() - second.mean(), low, high, expected.pvalue)
    )


def test_paired_equals_scipy_over_the_splits_that_both_cells_have() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(1, 1, 7), rng.normal(0, 1, 7)
    expected = stats.ttest_rel(first, second)
    low, high = expected.confidence_interval(0.95)
    found = difference({**sample(first), 20: 9.0}, {**sample(second), 30: -9.0}, paired=True)
    assert found.method == "paired"
    assert found.n == 7
    assert (found.estimate, found.low, found.high, found.p_value) == pytest.approx((np.mean(first - second), low, high, expected.pvalue))


def test_cells_without_a_common_split_or_without_values_have_no_difference() -> None:
    assert difference({0: 1.0}, {1: 1.0}, paired=True) is None
    assert difference({}, {1: 1.0}, paired=False) is None


@pytest.mark.parametrize("paired", [True, False])
def test_one_seed_gives_an_estimate_without_interval(paired: bool) -> None:
    found = difference({0: 2.0}, {0: 0.5}, paired=paired)
    assert (found.estimate, found.low, found.high, found.p_value) == (1.5, None, None, None)


@pytest.mark.parametrize("paired", [True, False])
def test_values_without_spread_are_not_judged(paired: bool) -> None:
    found = difference({0: 2.0, 1: 2.0}, {0: 1.0, 1: 1.0}, paired=paired)
    assert (found.estimate, found.p_value) == (1.0, None)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("shift", [0.0, 0.1, 1 / 3])
def test_what_rounding_leaves_is_no_spread_and_no_difference(shift: float, paired: bool) -> None:
    """Sums of 7 times 90.7, and equal distances between numbers of unlike size, are off by a last digit."""
    second = np.array([3.1 + 11.7 * seed for seed in range(8)]) if paired else np.full(7, 90.7)
    found = difference(sample(second + shift), sample(second), paired=paired)
    assert (found.error, found.p_value, found.low, found.high) == (0.0, None, found.estimate, found.estimate)
    assert found.estimate == (pytest.approx(shift) if shift else 0.0)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_what_is_above_rounding_counts_at_every_scale(scale: float) -> None:
    rng = np.random.default_rng(3)
    second = scale * rng.normal(100, 1, 8)
    found = difference(sample(second + scale * rng.normal(1e-9, 1e-10, 8)), sample(second), paired=True)
    assert found.estimate == pytest.approx(1e-9 * scale, rel=0.2)
    assert found.p_value < 0.001


def test_pairing_pays_where_seeds_share_a_split_and_costs_where_they_share_nothing() -> None:
    rng = np.random.default_rng(3)
    widths: dict[tuple[str, bool], list[float]] = {}
    for _ in range(300):
        split = rng.normal(0, 1, 5)
        for shared, common in (("split", split), ("nothing", np.zeros(5))):
            first, second = common + rng.normal(0, 0.7, 5), common + rng.normal(0, 0.7, 5)
            for paired in (True, False):
                found = difference(sample(first), sample(second), paired=paired)
                widths.setdefault((shared, paired), []).append(found.high - found.low)
    mean = {key: np.mean(found) for key, found in widths.items()}
    assert mean["split", True] < mean["split", False]
    assert mean["nothing", False] < mean["nothing", True]


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_what_its_definition_rejects(p_values: list[float], level: float) -> None:
    rejected = set()
    remaining = list(range(len(p_values)))
    while remaining:  # step down: the smallest p-value against level / (hypotheses left), until one stands
        smallest = min(remaining, key=lambda position: p_values[position])
        if p_values[smallest] * len(remaining) > level:
            break
        rejected.add(smallest)
        remaining.remove(smallest)
    adjusted = holm(p_values)
    assert {position for position, p in enumerate(adjusted) if p <= level} == rejected
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))


def test_holm_runs_over_those_that_have_a_p_value() -> None:
    assert holm([0.02, None, 0.01]) == [0.02, None, 0.02]


@settings(max_examples=50)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_fieller_bounds_are_where_the_test_of_the_ratio_turns(means: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arm, baseline, reference = (mean + rng.normal(0, 0.3, 5) for mean in means)
    found = share_closed(sample(arm), sample(baseline), sample(reference), paired=True)
    if found is None or found.low is None or found.high is None:
        return
    for bound in (found.low, found.high):
        assert stats.ttest_1samp(arm - baseline - bound * (reference - baseline), 0).pvalue == pytest.approx(0.05, abs=1e-6)


def test_share_of_one_seed_has_no_interval_and_an_unseparated_gap_no_bounds() -> None:
    one = share_closed({0: 1.5}, {0: 1.0}, {0: 2.0}, paired=True)
    assert (one.estimate, one.low) == (0.5, None)
    wild = share_closed({0: 1.0, 1: 0.0}, {0: 0.0, 1: 1.0}, {0: 1.0, 1: 0.1}, paired=False)
    assert wild.low is None
    assert share_closed({0: 1.0}, {0: 1.0}, {0: 1.0}, paired=True) is None
