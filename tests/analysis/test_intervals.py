from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gapbench.analysis.stats import prediction_interval, t_interval, t_quantile, two_sided_p

SAMPLES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(SAMPLES)
def test_t_interval_equals_scipy(values: list[float]) -> None:
    found = t_interval(values)
    assert found is not None
    assert found.n == len(values)
    error = stats.sem(values)
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), abs=1e-9)
        assert found.half_width == pytest.approx((high - low) / 2, abs=1e-9)


def test_one_value_has_a_mean_and_never_an_interval() -> None:
    found = t_interval([0.5])
    assert found is not None
    assert (found.mean, found.low, found.high, found.half_width) == (0.5, None, None, None)
    assert prediction_interval([0.5]) is None


def test_no_value_has_nothing() -> None:
    assert t_interval([]) is None
    assert prediction_interval([]) is None


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
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        assert prediction is not None
        mean_covered += interval.low <= 1.0 <= interval.high
        run_covered += prediction[0] <= row[n] <= prediction[1]
        old_covers_new += interval.low <= row[n] <= interval.high
    assert mean_covered / trials == pytest.approx(0.95, abs=0.015)
    assert run_covered / trials == pytest.approx(0.95, abs=0.015)
    # The interval of the mean is no place to look for a single new run.
    assert old_covers_new / trials < 0.90
