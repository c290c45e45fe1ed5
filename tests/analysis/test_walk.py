from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import Curve, Curves
from gapbench.analysis.walk import FitWindow, log_fit, walk_of, window_of
from gapbench.suite.runspec import AdaptiveBatch, Component, Phase


def curve(updates: Any, values: Any) -> Curve:
    return Curve(np.asarray(updates, dtype=np.float64), np.asarray(values, dtype=np.float64))


def test_the_window_ends_where_the_batch_first_grows(spec: Any) -> None:
    phases = (Phase(), Phase(start=0.5, batch_size_factor=2.0), Phase(start=0.8, learning_rate_factor=0.1, batch_size_factor=2.0))
    growing = spec(phases=phases, unramped_updates=1000, updates=750)
    assert window_of(growing).last == 500
    assert window_of(spec(phases=phases[:1], updates=1000)).last == 1000
    rule = AdaptiveBatch(exchange_rate=20, smallest=10, largest=80, unit=5, decisions=10, measure_every=4, smoothing=0.9, largest_change=2)
    following = spec(phases=phases[:1], updates=1000, unramped_updates=1000, adaptive_batch=rule)
    assert window_of(following).last == 100  # there its batch size is first decided on


def test_a_logarithmic_walk_gives_back_its_slope_and_an_r_squared_of_one() -> None:
    updates = np.unique(np.geomspace(1, 1000, 60).round())
    fit = log_fit(curve(updates, 3 + 2.5 * np.log(updates)), FitWindow(10, 1000, clipped=False, decayed=False))
    assert fit.slope == pytest.approx(2.5)
    assert fit.r_squared == pytest.approx(1.0)


def test_the_fit_is_least_squares_as_scipy_has_it() -> None:
    from scipy.stats import linregress

    generator = np.random.default_rng(3)
    updates = np.unique(np.geomspace(1, 500, 40).round())
    values = np.sqrt(updates) + generator.normal(0, 0.3, len(updates))
    fit = log_fit(curve(updates, values), FitWindow(1, 500, clipped=False, decayed=False))
    oracle = linregress(np.log(updates), values)
    assert (fit.slope, fit.r_squared) == pytest.approx((oracle.slope, oracle.rvalue**2))


def test_what_lies_outside_the_window_does_not_count() -> None:
    updates = np.arange(1, 101)
    values = np.where((updates >= 10) & (updates <= 50), np.log(updates), 1e6)
    fit = log_fit(curve(updates, values), FitWindow(10, 50, clipped=False, decayed=False))
    assert fit.slope == pytest.approx(1.0)


def test_three_points_are_no_fit() -> None:
    assert log_fit(curve([1, 2, 3], [1, 2, 3]), FitWindow(1, 10, clipped=False, decayed=False)) is None


def test_the_window_is_five_doublings_up_to_the_first_change_of_the_rate(spec: Any) -> None:
    window = window_of(spec(updates=1687, weight_decay=0.0, phases=(Phase(start=0.0), Phase(start=0.5, learning_rate_factor=0.1))))
    assert (window.first, window.last) == (843 / 32, 843)
    assert not window.clipped
    assert not window.decayed


def test_a_phase_that_leaves_the_rate_as_it_is_does_not_end_the_window(spec: Any) -> None:
    assert window_of(spec(updates=1000, phases=(Phase(start=0.0), Phase(start=0.5, weight_decay=0.0)))).last == 1000


def test_short_training_and_warmup_cut_the_window_and_say_so(spec: Any) -> None:
    short = window_of(spec(updates=52))
    assert (short.first, short.last, short.clipped) == (1, 26, True)
    warmed = window_of(spec(updates=6400, warmup=0.1))
    assert (warmed.first, warmed.clipped) == (640, True)


def test_windows_within_a_tenth_of_the_memory_of_weight_decay_are_clean(spec: Any) -> None:
    # memory (1 - 0.9) / (0.1 * 1e-3) = 1000 updates, of which a tenth is clean
    assert not window_of(spec(updates=198, weight_decay=1e-3)).decayed
    assert window_of(spec(updates=400, weight_decay=1e-3)).decayed
    assert not window_of(spec(updates=400, weight_decay=0.0)).decayed
    assert not window_of(spec(updates=400, weight_decay=1e-3, optimizer=Component(name="adamw"))).decayed


def test_a_cell_has_one_slope_with_an_interval_over_its_seeds(synthetic: ModuleType, spec: Any) -> None:
    runs, curves = synthetic.digits_suite(4, only=["SB"])
    (panel,) = read_panels(runs)
    specs = {run_id: spec(updates=1687) for run_id in runs["run_id"]}
    walk = walk_of(panel.cells[0], Curves(curves), specs)
    assert walk.slope.n == 4
    assert walk.slope.low is not None
    assert 2.0 < walk.slope.mean < 2.8
    assert walk.r_squared[0] > 0.99


def test_without_schedule_or_measurement_there_is_a_reason_instead(synthetic: ModuleType, spec: Any) -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB"])
    (panel,) = read_panels(runs)
    assert walk_of(panel.cells[0], Curves(curves), {}).reason == "the schedule is not known"
    assert walk_of(panel.cells[0], Curves(curves.iloc[:0]), {}).reason == "no ok run has measured it"
    tiny = {run_id: spec(updates=2) for run_id in runs["run_id"]}
    assert "fewer than 4 points" in walk_of(panel.cells[0], Curves(curves), tiny).reason
