from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gapbench.analysis.curves import Curve, Window
from gapbench.analysis.diffusion.walks import CLOCKS, CellWindow, cell_window, clipped_until, clock_of, common_window, derive_cosine
from gapbench.optimizers import schedule
from gapbench.suite.runspec import Component, Phase

DROP = (Phase(start=0.0), Phase(start=0.5, learning_rate_factor=0.1, weight_decay=0.0, momentum=0.5))


def test_a_clock_is_the_schedule_that_the_engine_trains_by(spec: Any) -> None:
    run = spec(updates=237, warmup=0.1, warmup_start=0.2, phases=DROP, batch_size=32, weight_decay=1e-3)
    table, clock = schedule(run), clock_of(run)
    assert clock.rates == pytest.approx(table.learning_rate)
    updates = np.array([1.0, 50.0, 237.0])
    sums = [np.array([table.learning_rate[: int(u)].sum(), (table.learning_rate[: int(u)] ** 2).sum() / 32]) for u in updates]
    assert clock.at("updates", updates).tolist() == [1, 50, 237]
    for place, name in enumerate(CLOCKS[1:]):
        assert clock.at(name, updates) == pytest.approx([one[place] for one in sums])
    acting = table.learning_rate * table.weight_decay / (1 - table.momentum)
    assert clock.memory(updates) == pytest.approx([acting[: int(u)].sum() for u in updates])


def test_the_memory_of_weight_decay_is_ten_thousand_updates_for_the_papers_values(spec: Any) -> None:
    clock = clock_of(spec(updates=39062, learning_rate=0.1, weight_decay=1e-4, phases=(Phase(),)))
    assert clock.memory(np.array([10000.0]))[0] == pytest.approx(1)
    assert clock.within_memory(0.1) == 1000
    assert clock_of(spec(updates=500, learning_rate=0.566, weight_decay=1e-4, phases=(Phase(),))).within_memory(0.1) == 176
    without = clock_of(spec(updates=500, weight_decay=0.0, optimizer=Component(name="adamw")))
    assert without.within_memory(0.1) == 500


def test_the_first_drop_is_where_the_rate_falls_and_not_where_warmup_ends(spec: Any) -> None:
    assert clock_of(spec(updates=400, phases=DROP, warmup=0.2)).first_drop == 200
    assert clock_of(spec(updates=400, phases=(Phase(), Phase(start=0.3, weight_decay=0.0)))).first_drop == 400


def share(*pairs: tuple[int, int]) -> Curve:
    """Curve of the share of updates so far that were clipped, from (update, how many)."""
    return Curve(np.array([u for u, _ in pairs], dtype=float), np.array([count / u for u, count in pairs]))


def test_clipping_binds_until_the_last_stretch_with_more_than_a_twentieth_clipped() -> None:
    assert clipped_until([share((1, 1), (10, 6), (100, 9), (200, 10))], 1000) == 10
    assert clipped_until([share((1, 0), (100, 0))], 1000) == 0
    assert clipped_until([share((1, 1), (10, 1), (500, 1), (900, 400))], 600) == 1
    assert clipped_until([], 600) == 0


def test_one_clipped_update_of_one_run_of_eight_does_not_bind() -> None:
    quiet, once = share((1, 0), (10, 0), (15, 0)), share((1, 0), (10, 0), (15, 1))
    assert clipped_until([once], 100) == 15
    assert clipped_until([once, *[quiet] * 7], 100) == 0


def test_a_cell_that_is_clipped_to_the_end_does_not_take_the_others_their_window(spec: Any) -> None:
    clock = clock_of(spec(updates=1000, phases=(Phase(),), weight_decay=0.0))
    quiet, busy = cell_window(clock, 0.0, [share((1, 1), (900, 2))]), cell_window(clock, 0.0, [share((1, 1), (300, 200))])
    assert quiet.clean
    assert not busy.clean
    assert common_window([quiet, busy]) == Window(100, 1000)
    assert common_window([busy]) == Window(300, 1000)


def test_windows_begin_at_100_or_a_tenth_of_short_training_and_after_clipping_and_warmup(spec: Any) -> None:
    long = clock_of(spec(updates=4000, phases=DROP, weight_decay=0.0))
    assert cell_window(long, 0.0, []).full == Window(100, 2000)
    assert cell_window(long, 0.0, [share((1, 1), (300, 200))]).full == Window(300, 2000)
    assert cell_window(long, 0.1, []).full == Window(400, 2000)
    assert cell_window(long, 0.1, [], first=20).full == Window(20, 2000)
    assert cell_window(clock_of(spec(updates=112, phases=(Phase(),))), 0.0, []).full == Window(11, 112)


def test_the_common_window_is_what_every_cell_has_within_its_memory(spec: Any) -> None:
    def cell(first: int, last: int, clean: int) -> CellWindow:
        return CellWindow(Window(first, last), clean, 0, 0, 0.2)

    cells = [cell(100, 5000, 1000), cell(100, 400, 400)]
    assert common_window(cells) == Window(40, 400)
    assert common_window(cells, first=7, last=300) == Window(7, 300)
    assert [one.decayed for one in cells] == [True, False]


def test_a_derived_cosine_is_the_true_one_within_what_it_says() -> None:
    generator = np.random.default_rng(0)
    start = generator.normal(size=500)
    steps = 0.05 * generator.normal(size=(30, 500))
    weights = start + steps.cumsum(axis=0)
    updates = np.arange(1.0, 31.0)
    found = derive_cosine(Curve(updates, np.linalg.norm(weights - start, axis=1)), Curve(updates, np.linalg.norm(weights, axis=1)))
    true = weights @ start / np.linalg.norm(weights, axis=1) / np.linalg.norm(start)
    assert np.abs(found.values - true).max() <= found.uncertain < 0.06
    assert derive_cosine(Curve(updates, updates), Curve(updates + 0.5, updates)) is None
