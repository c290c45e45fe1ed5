"""Exponents come back from curves that are known, at the coverage that is claimed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from gapbench.analysis.diffusion.laws import LAWS, local_exponent, nested_fit
from gapbench.analysis.diffusion.walks import decayed_walk_exponent
from gapbench.analysis.stats import t_quantile

UPDATES = np.unique(np.rint(np.geomspace(100, 10000, 41)))


def nested(updates, exponent, a=2.0, b=1.0):
    u = updates / 100
    return a + b * (np.log(u) if exponent == 0 else (u**exponent - 1) / exponent)


def correlated(generator, curves, deviation, folds=1.0):
    """Residuals whose correlation falls by 1/e over so many e-folds of the update count, [curve, point]."""
    out = np.empty((curves, len(UPDATES)))
    out[:, 0] = generator.normal(size=curves)
    for place, rho in enumerate(np.exp(-np.diff(np.log(UPDATES)) / folds)):
        out[:, place + 1] = rho * out[:, place] + np.sqrt(1 - rho**2) * generator.normal(size=curves)
    return deviation * out


@pytest.mark.parametrize("exponent", [-1.04, -0.13, 0.0, 0.28, 0.5, 1.0, 1.7])
def test_an_undisturbed_curve_gives_back_its_exponent(exponent):
    fit = nested_fit(UPDATES, nested(UPDATES, exponent)[None])
    assert fit.exponent[0] == pytest.approx(exponent, abs=1e-4)
    assert fit.standard_error[0] == pytest.approx(0, abs=1e-4)


def test_the_exponent_does_not_depend_on_the_unit_of_time_or_distance():
    generator = np.random.default_rng(1)
    curves = nested(UPDATES, 0.3) * (1 + correlated(generator, 20, 0.02))
    assert nested_fit(UPDATES * 37, 5 * curves).exponent == pytest.approx(nested_fit(UPDATES, curves).exponent, abs=1e-5)


def test_the_fit_is_least_squares_in_all_three_parameters():
    generator = np.random.default_rng(2)
    curves = nested(UPDATES, 0.2) * (1 + correlated(generator, 6, 0.03))
    fit = nested_fit(UPDATES, curves)
    for curve, exponent, error in zip(curves, fit.exponent, fit.standard_error, strict=True):
        oracle = least_squares(lambda x, curve=curve: nested(UPDATES, x[2], x[0], x[1]) - curve, [2.0, 1.0, 0.15], xtol=1e-14, ftol=1e-14)
        covariance = np.linalg.inv(oracle.jac.T @ oracle.jac) * 2 * oracle.cost / (len(UPDATES) - 3)
        assert exponent == pytest.approx(oracle.x[2], abs=1e-4)
        assert error == pytest.approx(np.sqrt(covariance[2, 2]), rel=1e-3)


def test_a_curve_that_determines_no_exponent_has_none():
    step = np.where(UPDATES > 9900, 2.0, 1.0)
    assert np.isnan(nested_fit(UPDATES, np.stack([step, np.ones(len(UPDATES))])).exponent).all()


@pytest.mark.parametrize("exponent", [-0.13, 0.0, 0.28, 0.5])
def test_intervals_over_runs_cover_the_true_exponent_though_residuals_are_correlated(exponent):
    """2,500 seeded draws of eight runs, residuals of 2 % correlated over one e-fold; every run has its own level and slope."""
    draws, runs = 2500, 8
    generator = np.random.default_rng(20170524)
    level, slope = (1 + 0.1 * generator.normal(size=(2, draws * runs, 1))) * np.array([2.0, 1.0])[:, None, None]
    curves = nested(UPDATES, exponent, level, slope) * (1 + correlated(generator, draws * runs, 0.02))
    found = nested_fit(UPDATES, curves).exponent.reshape(draws, runs)
    half = t_quantile(0.95, runs - 1) * found.std(axis=1, ddof=1) / np.sqrt(runs)
    assert 0.93 <= np.mean(np.abs(found.mean(axis=1) - exponent) <= half) <= 0.97
    assert found.mean() == pytest.approx(exponent, abs=0.005)


def test_one_curves_standard_error_is_too_small_for_correlated_residuals():
    """Why intervals are over runs: from one trajectory the true exponent would be missed far more often than once in twenty."""
    curves = nested(UPDATES, 0.28) * (1 + correlated(np.random.default_rng(4), 2000, 0.02))
    fit = nested_fit(UPDATES, curves)
    half = t_quantile(0.95, len(UPDATES) - 3) * fit.standard_error
    assert np.mean(np.abs(fit.exponent - 0.28) <= half) < 0.75


@pytest.mark.parametrize(
    ("law", "curve"),
    [
        ("log law", 1.5 + 2 * np.log(UPDATES)),
        ("power law", 0.3 * UPDATES**0.4),
        ("weight-decay saturation", 9 * np.sqrt(1 - np.exp(-UPDATES / 3000))),
    ],
)
def test_each_law_predicts_its_own_curve_and_the_others_do_not(law, curve):
    early = UPDATES <= 2500
    errors = {name: abs(predict(UPDATES[early], curve[None, early], UPDATES[-1:])[0, 0] / curve[-1] - 1) for name, predict in LAWS.items()}
    assert errors[law] < 1e-3
    assert min(error for name, error in errors.items() if name != law) > 0.02


def test_where_the_log_law_is_true_the_power_law_is_hardly_ever_preferred():
    draws, runs = 2000, 8
    curves = (2 + np.log(UPDATES / 100)) * (1 + correlated(np.random.default_rng(5), draws * runs, 0.02))
    early = UPDATES <= 2500
    off = {
        name: np.abs(LAWS[name](UPDATES[early], curves[:, early], UPDATES[-1:])[:, 0] / curves[:, -1] - 1).reshape(draws, runs)
        for name in ("log law", "power law")
    }
    better = off["power law"] - off["log law"]
    low = better.mean(axis=1) + t_quantile(0.95, runs - 1) * better.std(axis=1, ddof=1) / np.sqrt(runs)
    assert np.mean(low < 0) < 0.025


def test_the_local_exponent_of_a_power_is_that_power_and_is_not_said_at_the_ends():
    found = local_exponent(UPDATES, np.log(UPDATES**0.37)[None])[0]
    assert found[np.isfinite(found)] == pytest.approx(0.37)
    assert np.isnan(found[[0, -1]]).all()


def test_a_free_walk_under_weight_decay_has_the_exponents_that_bend_long_before_the_memory_time():
    assert decayed_walk_exponent(np.array([0.0, 0.1, 0.2, 1.0])) == pytest.approx([0.5, 0.45, 0.41, 0.16], abs=0.005)


def test_a_simulated_walk_under_weight_decay_has_the_local_exponents_of_the_formula():
    """400 walks of 50 coordinates: w <- (1 - rate * decay) w + noise, memory time 1000 updates."""
    generator = np.random.default_rng(6)
    position, squares = np.zeros((400, 50)), []
    for _ in range(1200):
        position = (1 - 1e-3) * position + generator.normal(size=position.shape)
        squares.append(np.square(position).sum(axis=1).mean())
    updates = np.unique(np.rint(np.geomspace(5, 1200, 60)))
    found = local_exponent(updates, 0.5 * np.log(np.array(squares)[updates.astype(int) - 1])[None], width=0.6)[0]
    for share in (0.1, 0.2, 0.85):
        place = int(np.argmin(np.abs(updates - 1000 * share)))
        assert found[place] == pytest.approx(float(decayed_walk_exponent(updates[place] / 1000)), abs=0.02)
