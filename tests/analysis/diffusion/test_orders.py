"""Drift and spread against what one would compute by hand from whole vectors."""

from __future__ import annotations

import numpy as np
import pytest

from gapbench.analysis.diffusion.laws import nested_fit
from gapbench.analysis.diffusion.walks import decompose, jackknife_error
from gapbench.analysis.stats import t_quantile

UPDATES = np.unique(np.rint(np.geomspace(10, 1000, 21)))


def walks(generator, orders=8, width=40, drift=2.0):
    steps = generator.normal(size=(orders, len(UPDATES), width)) * np.sqrt(np.diff(np.r_[0, UPDATES]))[None, :, None]
    return steps.cumsum(axis=1) + drift * np.log(UPDATES)[None, :, None]


def slow(vectors):
    """Squares of total, drift and spread at one update, as the definition has them; vectors [order, parameter]."""
    mean = vectors.mean(axis=0)
    spread = sum(np.sum((vector - mean) ** 2) for vector in vectors) / (len(vectors) - 1)
    total = np.mean([np.sum(vector**2) for vector in vectors])
    return total, total - spread, spread


def test_drift_and_spread_are_those_of_the_definition_with_and_without_each_order():
    vectors = walks(np.random.default_rng(0))
    found = decompose(UPDATES, np.linalg.norm(vectors, axis=2), vectors)
    for place in (0, 10, 20):
        for left_out in range(9):
            kept = [order for order in range(8) if order != left_out - 1]
            expected = slow(vectors[kept, place])
            squares = [np.exp(2 * found.logs[name].replicates[left_out, place]) for name in ("total", "drift", "spread")]
            assert squares == pytest.approx(expected)
            assert found.share[left_out, place] == pytest.approx(expected[2] / expected[0])


def test_without_any_common_part_the_drift_is_not_separated_from_zero():
    draws = [decompose(UPDATES, np.linalg.norm(v, axis=2), v) for v in (walks(np.random.default_rng(s), drift=0.0) for s in range(40))]
    negative = np.mean([np.isnan(draw.logs["drift"].value[-1]) for draw in draws])
    assert 0.3 < negative < 0.8  # its square is unbiased, so about half of the time it is below zero


def test_intervals_of_the_spread_and_of_its_exponent_cover_a_free_walk():
    """2,000 seeded draws of eight walks; the jackknife errs on the wide side."""
    draws, width, generator = 2000, 24, np.random.default_rng(1)
    found = [decompose(UPDATES, np.linalg.norm(v, axis=2), v).logs["spread"] for v in (walks(generator, width=width) for _ in range(draws))]
    replicates = np.stack([logs.replicates for logs in found])
    quantile = t_quantile(0.95, 7)
    level = np.stack([jackknife_error(one)[-1] for one in replicates])
    truth = 0.5 * np.log(width * UPDATES[-1])
    assert 0.93 <= np.mean(np.abs(replicates[:, 0, -1] - truth) <= quantile * level) <= 0.98
    exponents = nested_fit(UPDATES, np.exp(replicates).reshape(-1, len(UPDATES))).exponent.reshape(draws, 9)
    error = np.array([float(jackknife_error(one)) for one in exponents])
    assert 0.93 <= np.mean(np.abs(exponents[:, 0] - 0.5) <= quantile * error) <= 0.98
    assert exponents[:, 0].mean() == pytest.approx(0.5, abs=0.01)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(2).normal(size=9)
    replicates = np.r_[values.mean(), [np.delete(values, place).mean() for place in range(9)]]
    assert jackknife_error(replicates) == pytest.approx(values.std(ddof=1) / 3)
