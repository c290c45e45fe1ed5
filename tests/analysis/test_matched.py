from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.cells import Cell, read_panels
from gapbench.analysis.curves import SMOOTHING, Curve, Curves, MatchedLoss, band, loss_path, matched_loss_gap, smooth


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
        assert reached is not None
        found.setdefault(cell, []).append(100 * reached)
    means = [float(np.mean(values)) for values in found.values()]
    return means[0] - means[1], float(np.exp(level))


def cells_of(synthetic: ModuleType, runs: pd.DataFrame) -> dict[str, Cell]:
    return {cell.name: cell for panel in read_panels(runs) for cell in panel.cells}


def rows_for(synthetic: ModuleType, curves: dict[tuple[str, int], tuple[dict[int, float], dict[int, float]]], prefix: str) -> Any:
    rows, points = [], []
    for (name, seed), (loss, accuracy) in curves.items():
        row = synthetic.run_row(name, seed, reference_cell=name == "SB")
        rows.append(row)
        for metric, curve in (("train_loss", loss), ("test_accuracy", accuracy)):
            for update, value in curve.items():
                points.append(
                    {
                        "run_id": row["run_id"],
                        "update": update,
                        "examples": 16 * update,
                        "metric": prefix + metric,
                        "layer": "",
                        "value": value,
                    }
                )
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
    cells = cells_of(synthetic, runs)
    found = matched_loss_gap(cells["SB"], cells["LB"], Curves(table))
    expected, level = slow_gap(
        [loss for loss, _ in curves.values()], [accuracy for _, accuracy in curves.values()], [name for name, _ in curves]
    )
    assert found.gap_pp is not None
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
    cells = cells_of(synthetic, runs)
    found = matched_loss_gap(cells["SB"], cells["LB"], Curves(table))
    assert found.gap_pp is not None
    assert found.gap_pp.estimate == pytest.approx(delta_pp, abs=0.02)


def reason(found: MatchedLoss) -> str:
    assert found.gap_pp is None
    return found.reason


def test_no_common_level_is_said_with_its_reason(synthetic: ModuleType) -> None:
    late = ({100: 0.01, 200: 0.001}, {100: 0.9, 200: 0.95})
    poor = ({1: 2.0, 200: 0.5}, {1: 0.2, 200: 0.8})
    runs, table = rows_for(synthetic, {("SB", 0): late, ("SB", 1): late, ("LB", 0): poor, ("LB", 1): poor}, "recalibrated_")
    cells = cells_of(synthetic, runs)
    assert (
        reason(matched_loss_gap(cells["SB"], cells["LB"], Curves(table)))
        == "no common level: SB is below train loss 0.5 at its first evaluation"
    )


def test_missing_curves_are_said(synthetic: ModuleType) -> None:
    whole = ({1: 2.0, 200: 0.5}, {1: 0.2, 200: 0.8})
    runs, table = rows_for(synthetic, {("SB", 0): whole, ("LB", 0): whole}, "recalibrated_")
    cells = cells_of(synthetic, runs)
    assert "no curves" in reason(matched_loss_gap(cells["SB"], cells["LB"], Curves(table.iloc[:0])))
    only_sb = table[table["run_id"] == "sb-s0"]
    assert (
        reason(matched_loss_gap(cells["SB"], cells["LB"], Curves(only_sb))) == "a run of LB has no curves of train loss and test accuracy"
    )


def test_running_statistics_are_used_only_where_there_are_no_others_and_named(synthetic: ModuleType) -> None:
    whole = ({1: 2.0, 100: 0.5}, {1: 0.2, 100: 0.8})
    runs, running = rows_for(synthetic, {("SB", 0): whole, ("LB", 0): whole}, "")
    cells = cells_of(synthetic, runs)
    assert matched_loss_gap(cells["SB"], cells["LB"], Curves(running)).statistics == "running"
    _, recalibrated = rows_for(synthetic, {("SB", 0): whole, ("LB", 0): whole}, "recalibrated_")
    assert matched_loss_gap(cells["SB"], cells["LB"], Curves(pd.concat([running, recalibrated]))).statistics == "recalibrated"


def test_smoothing_window_is_a_fraction_of_the_updates_reached() -> None:
    updates, values = np.array([1.0, 10, 95, 100, 104, 1000]), np.array([0.0, 1, 3, 6, 9, 50])
    assert smooth(updates, values).tolist() == [0, 1, 6, 6, 6, 50]


def test_a_loss_that_never_falls_is_reached_at_once() -> None:
    path = loss_path(Curve(np.array([1.0, 10]), np.array([0.5, 0.7])), Curve(np.array([1.0, 10]), np.array([0.8, 0.7])))
    assert path is not None
    assert path.accuracy_at(float(np.log(0.5))) == 0.8
    assert path.accuracy_at(float(np.log(0.4))) is None
    assert path.accuracy_at(float(np.log(0.6))) is None


def test_curves_are_sorted_and_hold_finite_values_of_one_layer_only() -> None:
    rows = [
        ("a", 5, "", 2.0),
        ("a", 1, "", 1.0),
        ("a", 9, "", float("nan")),
        ("a", 1, "0.weight", 7.0),
        ("a", 5, "", 3.0),
        ("b", 1, "", float("inf")),
    ]
    table = pd.DataFrame(
        [{"run_id": run, "update": t, "examples": t, "metric": "m", "layer": layer, "value": v} for run, t, layer, v in rows]
    )
    found = Curves(table).of("m")
    assert list(found) == ["a"]
    assert found["a"].updates.tolist() == [1, 5]
    assert found["a"].values.tolist() == [1, 3]


def test_band_is_the_t_interval_at_every_update_that_all_runs_have() -> None:
    from gapbench.analysis.stats import t_interval

    curves = [Curve(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]) * scale) for scale in (1.0, 1.1, 1.3)]
    curves.append(Curve(np.array([1.0, 3]), np.array([1.2, 3.5])))
    found = band(curves)
    assert found is not None
    assert found.updates.tolist() == [1, 3]
    for position, values in enumerate(([1, 1.1, 1.3, 1.2], [4, 4.4, 5.2, 3.5])):
        expected = t_interval(values)
        assert expected is not None
        assert found.low is not None
        assert found.high is not None
        assert (found.mean[position], found.low[position], found.high[position]) == pytest.approx(
            (expected.mean, expected.low, expected.high)
        )
    logarithmic = band(curves, logarithmic=True)
    assert logarithmic is not None
    assert logarithmic.low is not None
    assert (logarithmic.low > 0).all()
    assert logarithmic.mean[0] == pytest.approx(np.exp(np.mean(np.log([1, 1.1, 1.3, 1.2]))))
    one = band(curves[:1])
    assert one is not None
    assert one.low is None
    assert band([]) is None
