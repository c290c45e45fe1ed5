"""Ratios of medians and their bootstrap intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.bench.records import median_ratio, ratio_of_medians, spread

SPEEDS = st.floats(0.1, 1e6)


def every_resample(above, below):
    """The slow oracle: the ratio of medians of all n^n equally likely resamples of n rounds, one after another."""
    ratios = []
    for drawn in itertools.product(range(len(above)), repeat=len(above)):
        numerator = sorted(above[index] for index in drawn)
        denominator = sorted(below[index] for index in drawn)
        ratios.append(np.median(numerator) / np.median(denominator))
    return np.sort(ratios)


@pytest.mark.parametrize("seed", range(5))
def test_the_bootstrap_interval_is_that_of_all_resamples(seed):
    generator = np.random.default_rng(seed)
    above, below = generator.lognormal(1.0, 0.2, (2, 5))
    ratio = ratio_of_medians(above.tolist(), below.tolist())
    ratios = every_resample(above, below)
    assert ratio.value == pytest.approx(np.median(above) / np.median(below))
    for found, share in ((ratio.low, 0.025), (ratio.high, 0.975)):
        # Ratios are few and lumpy, so the quantile is looked for within one percent of the resamples.
        assert np.quantile(ratios, max(0.0, share - 0.01)) <= found <= np.quantile(ratios, min(1.0, share + 0.01))


def test_the_interval_is_the_same_every_time():
    above, below = [3.0, 3.2, 2.9, 3.4, 3.1], [1.0, 1.1, 0.9, 1.0, 1.2]
    assert ratio_of_medians(above, below) == ratio_of_medians(above, below)


def test_a_slow_minute_that_hits_both_sides_leaves_the_ratio():
    ratio = ratio_of_medians([10.0, 5.0, 10.0, 2.0, 10.0], [2.0, 1.0, 2.0, 0.4, 2.0])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((5.0, 5.0, 5.0))


def test_one_round_has_no_interval():
    ratio = ratio_of_medians([6.0], [2.0])
    assert (ratio.value, ratio.low, ratio.high) == (3.0, None, None)
    assert spread([1.0], [1.1]) is None


@given(st.lists(st.tuples(SPEEDS, SPEEDS), min_size=2, max_size=7))
def test_the_interval_lies_within_what_rounds_allow(pairs):
    above, below = zip(*pairs, strict=True)
    ratio = ratio_of_medians(above, below)
    least, most = min(above) / max(below), max(above) / min(below)
    assert least * (1 - 1e-9) <= ratio.low <= ratio.high <= most * (1 + 1e-9)


def test_the_spread_is_the_far_end_of_the_interval_of_equal_things():
    first, second = [100.0, 100.0, 100.0], [104.0, 100.0, 98.0]
    ratio = ratio_of_medians(second, first)
    assert spread(first, second) == pytest.approx(max(abs(ratio.low - 1), abs(ratio.high - 1))) == pytest.approx(0.04)
    assert spread(first, first) == 0.0


def test_sides_of_different_rounds_are_refused():
    with pytest.raises(ValueError, match="as many numerators as denominators, not 2 and 1"):
        ratio_of_medians([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="not 0 and 0"):
        ratio_of_medians([], [])


def test_rounds_of_sides_in_turns_are_compared_one_by_one():
    slow_minutes = [1.0, 2.0, 5.0, 9.0]
    with_it = [1.02 * minute for minute in slow_minutes]
    ratio = median_ratio(with_it, slow_minutes)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.02, 1.02, 1.02))
    assert spread(with_it, slow_minutes, median_ratio) == pytest.approx(1.0 - 1 / 1.02)
    with pytest.raises(ValueError, match="as many"):
        median_ratio([1.0], [])
