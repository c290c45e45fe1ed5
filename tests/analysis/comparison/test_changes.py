"""Differences between two results have the intervals and p-values that the textbook gives them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gapbench.analysis.comparison.cells import change, change_from_published

FIRST = {0: 97.1, 1: 96.4, 2: 97.9, 3: 97.0}
SECOND = {0: 96.0, 1: 95.9, 2: 97.2, 3: 95.5}


def test_cells_on_the_same_splits_are_paired():
    found = change(FIRST, SECOND, same_splits=True)
    oracle = stats.ttest_rel([*SECOND.values()], [*FIRST.values()])
    interval = oracle.confidence_interval(0.95)
    assert found.method == "paired"
    assert (found.estimate, found.low, found.high) == pytest.approx((-0.95, interval.low, interval.high))
    assert found.p_value == pytest.approx(oracle.pvalue)


def test_cells_on_one_fixed_split_are_welch():
    found = change(FIRST, SECOND, same_splits=False)
    oracle = stats.ttest_ind([*SECOND.values()], [*FIRST.values()], equal_var=False)
    interval = oracle.confidence_interval(0.95)
    assert found.method == "welch"
    assert (found.low, found.high, found.p_value) == pytest.approx((interval.low, interval.high, oracle.pvalue))


def test_more_seeds_on_one_side_are_paired_on_the_splits_that_both_have():
    found = change(FIRST, {**SECOND, 4: 10.0, 5: 10.0}, same_splits=True)
    assert found.method == "paired"
    assert found.estimate == pytest.approx(-0.95)
    assert (found.n_first, found.n_second) == (4, 6)


@pytest.mark.parametrize("shift", [2, 4])
def test_splits_that_are_only_partly_shared_are_welch(shift):
    other = {key + shift: value for key, value in SECOND.items()}
    assert change(FIRST, other, same_splits=True).method == "welch"


def test_one_seed_has_a_difference_and_no_interval():
    found = change({0: 97.0}, {0: 96.0}, same_splits=True)
    assert found.estimate == pytest.approx(-1.0)
    assert (found.low, found.high, found.p_value) == (None, None, None)
    assert change({0: 97.0}, {}, same_splits=True).estimate is None


def test_values_without_any_spread_have_no_interval():
    found = change(FIRST, {key: value - 1 for key, value in FIRST.items()}, same_splits=True)
    assert found.estimate == pytest.approx(-1.0)
    spreadless = change({0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0}, same_splits=True)
    assert (spreadless.estimate, spreadless.low, spreadless.p_value) == (1.0, None, None)


def test_a_published_run_is_held_against_one_new_run_of_ours():
    ours = [98.9, 99.1, 99.3]
    half = stats.t.ppf(0.975, 2) * np.std(ours, ddof=1) * np.sqrt(1 + 1 / 3)
    found = change_from_published(98.27, 0.005, ours, published_first=True)
    assert found.estimate == pytest.approx(0.83)
    assert (found.low, found.high) == pytest.approx((0.83 - half - 0.005, 0.83 + half + 0.005))
    mirrored = change_from_published(98.27, 0.005, ours, published_first=False)
    assert (mirrored.estimate, mirrored.low, mirrored.high) == pytest.approx((-0.83, -found.high, -found.low))
    assert mirrored.p_value == found.p_value


def test_the_interval_around_a_published_run_holds_zero_exactly_where_the_p_value_is_above_5_percent():
    generator = np.random.default_rng(0)
    for _ in range(200):
        found = change_from_published(0.0, 0.05, [*generator.normal(1.0, 0.5, 4)], published_first=True)
        assert (found.low <= 0 <= found.high) == (found.p_value >= 0.05)


def test_a_published_run_without_our_intervals_stays_without():
    assert change_from_published(98.0, 0.05, [97.0], published_first=True).low is None
    assert change_from_published(98.0, 0.05, [], published_first=True).estimate is None
    assert change_from_published(98.0, 0.05, [97.0, 97.0], published_first=True).p_value is None


@pytest.mark.parametrize("n", [3, 5])
def test_a_published_run_like_ours_is_found_different_in_5_percent(n):
    generator = np.random.default_rng(n)
    draws = 2000
    found = [change_from_published(generator.normal(), 0.0, [*generator.normal(size=n)], published_first=True) for _ in range(draws)]
    assert sum(one.p_value < 0.05 for one in found) / draws == pytest.approx(0.05, abs=0.015)
