"""Curves: bands over seeds, equal examples, and gaps at a matched loss against brute force."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import SMOOTHING, Curve, Curves, MatchedLoss, at_equal_examples, band, loss_path, matched_loss_gap, smooth
from gapbench.analysis.stats import t_interval


def slow_gap(losses: list[dict[int, float]], accuracies: list[dict[int, float]], cells: list[str]) -> tuple[float, float]:
    """Brute force: curves drawn at ten thousand points between evaluations, walked along until the level is reached."""
    paths = []
    for loss, accuracy in zip(losses, accuracies, strict=True):
        smoothed = []
        for update in sorted(loss):
            near = [other for other in loss if (1 - SMOOTHING) * update <= other <= (1 + SMOOTHING) * update]
            smoothed.append((sum(np.log(loss[other]) for other in near) / len(near), sum(accuracy[other] for other in near) / len(near)))
        paths.append(smoothed)
    level = max(min(point[0] for point in path) for path in paths)
    found: dict[str, list[float]] = {}
    for path, cell in zip(paths, cells, strict=True):
        reached = None
        for (l0, a0), (l1, a1) in itertools.pairwise(path):
            for part in np.linspace(0, 1, 10_001):
                if l0 + part * (l1 - l0) <= level + 1e-12:
                    reached = a0 + part * (a1 - a0)
                    break
            if reached is not None:
                break
        found.setdefault(cell, []).append(100 * reached)
    means = [float(np.mean(values)) for values in found.values()]
    return means[0] - means[1], float(np.exp(level))


def gap_of(runs: pd.DataFrame, curves: pd.DataFrame) -> MatchedLoss:
    cells = {cell.name: cell for panel in read_panels(runs) for cell in panel.cells}
    return matched_loss_gap(cells["SB"], cells["LB"], Curves(curves))


def rows_for(synthetic: ModuleType, curves: dict[tuple[str, int], tuple[dict[int, float], dict[int, float]]], prefix: str) -> Any:
    rows, points = [], []
    for (name, seed), (loss, accuracy) in curves.items():
        row = synthetic.run_row(name, seed, reference_cell=name == "SB")
        rows.append(row)
        for metric, curve in (("train_loss", loss), ("test_accuracy", accuracy)):
            for update, value in curve.items():
                points.append(synthetic.point(row["run_id"], update, prefix + metric, value))
    return synthetic.tables(rows, points)


def noisy_curves(rng: np.random.Generator, speed: float, floor: float, updates: list[int]) -> tuple[dict[int, float], dict[int, float]]:
    loss = {t: float((floor + 2.3 * np.exp(-speed * t)) * np.exp(rng.normal(0, 0.15))) for t in updates}
    return loss, {t: float(1 - 0.3 * value**0.5 + rng.normal(0, 0.01)) for t, value in loss.items()}


@pytest.mark.parametrize("seed", range(5))
def test_matched_loss_gap_equals_brute_force(synthetic: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    updates = {"SB": [1, 2, 4, 8, 16, 40, 80, 120, 150, 155, 160], "LB": [1, 2, 3, 5, 8, 12, 16, 19, 20]}
    speeds = {"SB": (0.05, 0.005), "LB": (0.2, 0.03)}
    curves = {(name, number): noisy_curves(rng, *speeds[name], updates[name]) for name in updates for number in range(3)}
    runs, table = rows_for(synthetic, curves, "recalibrated_")
    found = gap_of(runs, table)
    expected, level = slow_gap(
        [loss for loss, _ in curves.values()], [accuracy for _, accuracy in curves.values()], [name for name, _ in curves]
    )
    assert found.gap_pp.estimate == pytest.approx(expected, abs=5e-3)
    assert found.train_loss == pytest.approx(level)
    assert found.gap_pp.method == "paired"


@pytest.mark.parametrize("delta_pp", [0.0, 1.5])
def test_matched_loss_gap_is_what_a_relation_of_loss_and_accuracy_says_however_fast_each_trains(
    synthetic: ModuleType, delta_pp: float
) -> None:
    def curves(speed: float, last: int, lower: float) -> tuple[dict[int, float], dict[int, float]]:
        loss = {int(t): float(2.3 * np.exp(-speed * t)) for t in np.unique(np.geomspace(1, last, 60).astype(int))}
        return loss, {t: 0.98 - 0.02 * float(np.log(value / 0.01)) - lower / 100 for t, value in loss.items()}

    runs, table = rows_for(
        synthetic,
        {
            ("SB", 0): curves(0.005, 1600, 0),
            ("SB", 1): curves(0.0051, 1600, 0),
            ("LB", 0): curves(0.05, 100, delta_pp),
            ("LB", 1): curves(0.055, 100, delta_pp),
        },
        "recalibrated_",
    )
    found = gap_of(runs, table)
    assert found.gap_pp.estimate == pytest.approx(delta_pp, abs=0.02)


def test_no_common_level_is_said_with_its_reason(synthetic: ModuleType) -> None:
    late = ({100: 0.01, 200: 0.001}, {100: 0.9, 200: 0.95})
    poor = ({1: 2.0, 200: 0.5}, {1: 0.2, 200: 0.8})
    runs, table = rows_for(synthetic, {("SB", 0): late, ("SB", 1): late, ("LB", 0): poor, ("LB", 1): poor}, "recalibrated_")
    assert gap_of(runs, table).reason == "no common level: SB is below train loss 0.5 at its first evaluation"


def test_missing_curves_are_said(synthetic: ModuleType) -> None:
    whole = ({1: 2.0, 200: 0.5}, {1: 0.2, 200: 0.8})
    runs, table = rows_for(synthetic, {("SB", 0): whole, ("LB", 0): whole}, "recalibrated_")
    assert "no curves" in gap_of(runs, table.iloc[:0]).reason
    only_sb = table[table["run_id"] == "sb-s0"]
    assert gap_of(runs, only_sb).reason == "a run of LB has no curves of train loss and test accuracy in its last phase"


def test_running_statistics_are_used_only_where_there_are_no_others_and_named(synthetic: ModuleType) -> None:
    whole = ({1: 2.0, 100: 0.5}, {1: 0.2, 100: 0.8})
    runs, running = rows_for(synthetic, {("SB", 0): whole, ("LB", 0): whole}, "")
    assert gap_of(runs, running).statistics == "running"
    _, recalibrated = rows_for(synthetic, {("SB", 0): whole, ("LB", 0): whole}, "recalibrated_")
    assert gap_of(runs, pd.concat([running, recalibrated])).statistics == "recalibrated"


def test_smoothing_window_is_a_fraction_of_the_updates_reached() -> None:
    updates, values = np.array([1.0, 10, 95, 100, 104, 1000]), np.array([0.0, 1, 3, 6, 9, 50])
    assert smooth(updates, values).tolist() == [0, 1, 6, 6, 6, 50]


def test_a_loss_that_never_falls_is_reached_at_once() -> None:
    path = loss_path(Curve(np.array([1.0, 10]), np.array([0.5, 0.7])), Curve(np.array([1.0, 10]), np.array([0.8, 0.7])))
    assert path.accuracy_at(float(np.log(0.5))) == 0.8
    assert path.accuracy_at(float(np.log(0.4))) is None
    assert path.accuracy_at(float(np.log(0.6))) is None


def test_curves_are_sorted_and_hold_finite_values_of_one_layer_only(synthetic: ModuleType) -> None:
    rows = [("a", 5, "", 2.0), ("a", 1, "", 1.0), ("a", 9, "", float("nan")), ("a", 1, "0.weight", 7.0), ("a", 5, "", 3.0)]
    rows.append(("b", 1, "", float("inf")))
    table = pd.DataFrame([{**synthetic.point(run, update, "m", value), "layer": layer} for run, update, layer, value in rows])
    found = Curves(table).of("m")
    assert list(found) == ["a"]
    assert found["a"].updates.tolist() == [1, 5]
    assert found["a"].values.tolist() == [1, 3]


def test_band_is_the_t_interval_at_every_update_that_all_runs_have() -> None:
    curves = [Curve(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]) * scale) for scale in (1.0, 1.1, 1.3)]
    curves.append(Curve(np.array([1.0, 3]), np.array([1.2, 3.5])))
    found = band(curves)
    assert found.updates.tolist() == [1, 3]
    for position, values in enumerate(([1, 1.1, 1.3, 1.2], [4, 4.4, 5.2, 3.5])):
        expected = t_interval(values)
        assert (found.mean[position], found.low[position], found.high[position]) == pytest.approx(
            (expected.mean, expected.low, expected.high)
        )
    logarithmic = band(curves, logarithmic=True)
    assert (logarithmic.low > 0).all()
    assert logarithmic.mean[0] == pytest.approx(np.exp(np.mean(np.log([1, 1.1, 1.3, 1.2]))))
    one = band(curves[:1])
    assert one.low is None
    assert band([]) is None


def curve(updates: list[float], examples: list[float], values: list[float]) -> Curve:
    return Curve(np.array(updates, dtype=float), np.array(values, dtype=float), np.array(examples, dtype=float))


def test_seeds_with_different_updates_are_averaged_at_equal_examples() -> None:
    one = curve([1, 10, 40], [10, 100, 400], [1.0, 0.5, 0.1])
    other = curve([1, 8, 25], [10, 110, 400], [2.0, 0.7, 0.3])
    assert (found := band([one, other])) is not None
    assert list(found.updates) == [1]  # what they share
    aligned = at_equal_examples([one, other])
    assert (found := band(aligned)) is not None
    assert list(found.updates) == pytest.approx([1, (10 + 1 + 7 * 0.9) / 2, 32.5])
    assert list(found.mean) == pytest.approx([1.5, (0.5 + 2.0 - 1.3 * 0.9) / 2, 0.2])
    logarithmic = at_equal_examples([one, other], logarithmic=True)[1].values
    assert logarithmic[1] == pytest.approx(2.0**0.1 * 0.7**0.9)


def test_one_run_and_runs_without_examples_stay_as_they_are() -> None:
    one, without = curve([1, 2], [8, 16], [1, 2]), Curve(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert at_equal_examples([one]) == [one]
    assert at_equal_examples([one, without]) == [one, without]
