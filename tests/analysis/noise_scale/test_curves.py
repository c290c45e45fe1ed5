"""From raw sums to noise scales: which |G|^2 each way of drawing examples gives, and how measurements are put together."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.curves import Curves
from gapbench.analysis.noise_scale import WINDOW, NoiseCurves

MEASUREMENTS = 400


def noise_of(rows: list[dict[str, Any]]) -> NoiseCurves:
    return NoiseCurves(Curves(pd.DataFrame(rows)))


@pytest.fixture(scope="module")
def probed(noise_made: ModuleType):
    """Many measurements of probe mode on one data set, and its gradients."""
    made, random = noise_made.data_set(0), np.random.default_rng(1)
    rows = [row for update in range(1, MEASUREMENTS + 1) for row in noise_made.probe_rows("a", update, made, random, 8, 8)]
    return noise_of(rows).probed("a", noise_made.EXAMPLES), made


@pytest.fixture(scope="module")
def streamed(noise_made: ModuleType):
    """The same of stream mode, whose batches are drawn without replacement."""
    made, random = noise_made.data_set(0), np.random.default_rng(2)
    updates = range(1, MEASUREMENTS * WINDOW + 1)
    rows = [row for update in updates for row in noise_made.stream_rows("a", update, made, random, 16, 4, cut=True)]
    return noise_of(rows).streamed("a", 64, noise_made.EXAMPLES), made


def near(values: np.ndarray, truth: float) -> bool:
    """Whether a mean is within four standard errors of the truth, and these are small enough to tell."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return bool(abs(values.mean() - truth) < 4 * error)


@pytest.mark.parametrize("mode", ["probed", "streamed"])
def test_both_modes_give_the_gradient_of_the_data_set_and_that_of_its_population(
    mode: str, request: pytest.FixtureRequest, noise_made: ModuleType
) -> None:
    found, rows = request.getfixturevalue(mode)
    dataset, population = (np.array([getattr(one, which).square for one in found]) for which in ("dataset", "population"))
    square, trace = float((rows.mean(0) ** 2).sum()), float(rows.var(0, ddof=1).sum())
    share = trace / noise_made.EXAMPLES
    assert share > 10 * dataset.std() / np.sqrt(len(dataset))  # the two are told apart
    assert near(dataset, square)
    assert near(population, square - share)


def test_over_many_data_sets_the_populations_gradient_is_the_populations(noise_made: ModuleType) -> None:
    random = np.random.default_rng(3)
    probed, streamed = [], []
    for seed in range(150):
        rows = noise_made.data_set(seed)
        table = [*noise_made.probe_rows("a", 1, rows, random, 8, 16)]
        for update in range(1, WINDOW + 1):
            table += noise_made.stream_rows("b", update, rows, random, 16, 4, cut=False)
        noise = noise_of(table)
        probed += noise.probed("a", noise_made.EXAMPLES)
        streamed += noise.streamed("b", 64, noise_made.EXAMPLES)
    for found in (probed, streamed):
        assert near(np.array([one.population.square for one in found]), noise_made.SQUARE)
        assert not near(np.array([one.dataset.square for one in found]), noise_made.SQUARE)
        assert near(np.array([one.dataset.trace for one in found]), noise_made.TRACE * (1.0 if found is streamed else 1 - 1 / 400))


def test_a_probed_point_says_how_it_was_measured(probed, noise_made: ModuleType) -> None:
    found, _ = probed
    assert len(found) == MEASUREMENTS
    first = found[0]
    assert (first.mode, first.update, first.size, first.count, first.dataset.n) == ("probe", 1.0, 8.0, 64.0, noise_made.BLOCKS)
    dimension = float((noise_made.SPREAD**2).sum()) ** 2 / float((noise_made.SPREAD**4).sum())
    assert np.median([one.dimension for one in found if one.dimension]) == pytest.approx(dimension, rel=0.2)


def test_intervals_hold_the_noise_scale_of_the_data_set(probed, streamed) -> None:
    for found, rows in (probed, streamed):
        truth = float(rows.var(0).sum() / (rows.mean(0) ** 2).sum())
        inside = [one.dataset.low <= truth and (one.dataset.high is None or truth <= one.dataset.high) for one in found]
        assert np.mean(inside) > 0.9


def test_stream_measurements_are_taken_so_many_at_a_time_and_what_is_left_over_is_left_out(noise_made: ModuleType) -> None:
    random, made = np.random.default_rng(4), noise_made.data_set(0)
    updates = [*range(1, 2 * WINDOW + 4)]
    rows = [row for update in updates for row in noise_made.stream_rows("a", update, made, random, 16, 4, cut=True)]
    found = noise_of(rows).streamed("a", 64, noise_made.EXAMPLES)
    assert [one.dataset.n for one in found] == [WINDOW, WINDOW]
    assert found[0].update == pytest.approx(np.exp(np.log(updates[:WINDOW]).mean()))
    assert (found[0].size, found[0].count) == (16.0, 4.0)


def test_where_training_cuts_the_batch_the_gradients_norm_stands_for_the_mean(noise_made: ModuleType) -> None:
    values = []
    for cut in (True, False):
        random, made = np.random.default_rng(5), noise_made.data_set(0)
        rows = [row for update in range(1, WINDOW + 1) for row in noise_made.stream_rows("a", update, made, random, 16, 4, cut=cut)]
        values.append(noise_of(rows).streamed("a", 64, noise_made.EXAMPLES)[0].dataset.value)
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_without_measurements_there_is_nothing(noise_made: ModuleType) -> None:
    noise = noise_of([*noise_made.loss_rows("a", 10)])
    assert noise.probed("a", 100) == []
    assert noise.streamed("a", 64, 100) == []
