"""Schedules against their definition, update by update."""

import numpy as np
import pytest
import torch

from gapbench.optimizers import schedule
from gapbench.suite.runspec import Component, Phase


def test_phases_begin_at_their_fraction_of_the_updates(spec):
    phases = (
        Phase(start=0.0),
        Phase(start=0.5, learning_rate_factor=0.1),
        Phase(start=0.75, learning_rate_factor=0.01, weight_decay=0.0, momentum=0.5),
    )
    table = schedule(spec(updates=52, learning_rate=0.1, weight_decay=1e-4, phases=phases))
    assert table.learning_rate[:26] == pytest.approx(0.1)
    assert table.learning_rate[26:39] == pytest.approx(0.01)
    assert table.learning_rate[39:] == pytest.approx(0.001)
    assert set(table.weight_decay[:39]) == {1e-4}
    assert set(table.weight_decay[39:]) == {0.0}
    assert set(table.momentum[39:]) == {0.5}


def test_a_boundary_does_not_move_by_rounding(spec):
    # 0.81 * 100 is 81.00000000000001 in floating point, and 0.29 * 100 is 28.999999999999996.
    for start, expected in ((0.81, 81), (0.29, 29)):
        table = schedule(spec(updates=100, phases=(Phase(start=0.0), Phase(start=start, learning_rate_factor=0.5))))
        assert (table.learning_rate == 0.1).sum() == expected


def test_warmup_rises_update_by_update_from_its_start(spec):
    table = schedule(spec(updates=100, learning_rate=1.0, warmup=0.1, warmup_start=0.25, phases=(Phase(start=0.0),)))
    expected = [0.25 + 0.75 * (update + 1) / 10 for update in range(10)]
    assert table.learning_rate[:10] == pytest.approx(expected)
    assert set(table.learning_rate[10:]) == {1.0}


def test_tables_of_equal_runs_are_the_same_and_of_others_not(spec):
    assert schedule(spec(seed=0)).same_as(schedule(spec(seed=1)))
    assert not schedule(spec()).same_as(schedule(spec(learning_rate=0.2)))
    assert not schedule(spec()).same_as(schedule(spec(optimizer=Component(name="sgd", options={"momentum": 0.5}))))


TORCH = {
    "cosine": lambda optimizer, updates: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates),
    "linear": lambda optimizer, updates: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates),
    "polynomial": lambda optimizer, updates: torch.optim.lr_scheduler.PolynomialLR(optimizer, updates, power=2.0),
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_schedules_by_name_are_torchs_after_warmup(spec, name, warmup):
    updates, first = 56, round(warmup * 56)
    found = schedule(spec(updates=updates, learning_rate=0.1, schedule=name, warmup=warmup, phases=(Phase(),))).learning_rate
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = TORCH[name](optimizer, updates - first)
    oracle = []
    for _ in range(updates - first):
        oracle.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found[first:] == pytest.approx(oracle, rel=1e-9, abs=1e-12)
    assert found[:first] == pytest.approx(0.1 * np.arange(1, first + 1) / max(first, 1))
