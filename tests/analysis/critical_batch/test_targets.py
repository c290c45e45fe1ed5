from __future__ import annotations

import numpy as np
import pytest

from gapbench.analysis.critical_batch.hyperbola import critical_batch_with_censored, fit_hyperbola
from gapbench.analysis.critical_batch.targets import (
    Passage,
    Target,
    TargetError,
    choose_rates,
    parse_target,
    steps_to_target,
    unequal_budget,
)
from gapbench.analysis.curves import Curve


def falling(rate: float, updates: np.ndarray) -> Curve:
    """A loss that is exactly (1 + t / rate) ^ -1."""
    return Curve(updates, 1.0 / (1.0 + updates / rate))


def test_the_passage_is_interpolated_between_evaluations() -> None:
    updates = np.geomspace(1, 10_000, 400)
    found = steps_to_target(falling(100.0, updates), 0.1, logarithmic=True)
    assert found.steps == pytest.approx(900.0, rel=0.01)
    assert found.spacing < 0.03


def test_smoothing_multiplies_all_steps_alike_so_that_the_critical_batch_stays() -> None:
    """A run whose every time is k times longer, evaluated at the same fractions, reaches the target after exactly k times the updates."""
    updates = np.geomspace(1, 2_000, 120)
    short = steps_to_target(falling(30.0, updates), 0.05, logarithmic=True).steps
    long = steps_to_target(falling(30.0 * 7, updates * 7), 0.05, logarithmic=True).steps
    assert long == pytest.approx(7 * short, rel=1e-9)


def test_a_target_that_is_not_reached_is_censored_where_training_ended() -> None:
    updates = np.geomspace(1, 500, 50)
    found = steps_to_target(falling(100.0, updates), 0.1)
    assert (found.steps, found.trained) == (None, pytest.approx(500.0))


def test_a_passage_before_the_first_evaluation_is_not_made_up() -> None:
    found = steps_to_target(Curve(np.array([10.0, 20.0]), np.array([0.05, 0.04])), 0.1)
    assert found.steps is None
    assert found.early


def test_targets_are_read_from_text() -> None:
    assert parse_target("train_loss=0.1") == Target("train_loss", 0.1)
    assert str(Target("validation_error", 0.3)) == "validation error 0.3"
    with pytest.raises(TargetError, match='did you mean "train_loss"'):
        parse_target("train_los=0.1")
    with pytest.raises(TargetError, match="METRIC=VALUE"):
        parse_target("train_loss")
    with pytest.raises(TargetError, match="between 0 and 1"):
        parse_target("test_error=20")


def test_the_rate_with_the_fewest_steps_is_chosen_and_edges_are_flagged() -> None:
    table = {64: {0.1: [100, 110], 0.2: [80, 90], 0.4: [95, 70]}, 128: {0.1: [50, 60], 0.2: [45, 50], 0.4: [30, 35]}}
    passages = [
        Passage(size, rate, seed, steps, steps)
        for size, rates in table.items()
        for rate, values in rates.items()
        for seed, steps in enumerate(values)
    ]
    small, large = choose_rates(passages)
    assert (small.learning_rate, small.steps, small.rates, small.at_edge) == (0.4, (95, 70), 3, "highest")
    assert (large.learning_rate, large.at_edge) == (0.4, "highest")
    assert unequal_budget([small, large]) == {}
    assert unequal_budget(choose_rates(passages[:-2])) == {64: 3, 128: 2}


def test_a_rate_that_loses_a_seed_is_worse_than_any_that_does_not() -> None:
    passages = [Passage(64, 0.1, 0, 100, 200), Passage(64, 0.1, 1, 120, 200), Passage(64, 0.2, 0, 50, 200), Passage(64, 0.2, 1, None, 200)]
    (chosen,) = choose_rates(passages)
    assert (chosen.learning_rate, chosen.censored) == (0.1, ())


def test_censored_runs_count_as_longer_than_they_trained() -> None:
    random = np.random.default_rng(6)
    sizes = np.repeat(32.0 * 2.0 ** np.arange(9), 3)
    steps = 2000.0 * (1 + 1000.0 / sizes) * np.exp(0.1 * random.standard_normal(len(sizes)))
    limit = np.where(sizes == sizes[0], 66_000.0, np.inf)  # the smallest batch was stopped at about the truth: its slow runs are lost
    arrived = steps <= limit
    assert 0 < (~arrived).sum() < 3
    biased = fit_hyperbola(sizes[arrived], steps[arrived])
    robust = critical_batch_with_censored(biased, sizes[arrived], steps[arrived], sizes[~arrived], limit[~arrived])
    whole = fit_hyperbola(sizes, steps)
    assert robust.value > biased.critical_batch.value  # slow small batches say that the critical batch is larger
    assert abs(np.log(robust.value / whole.critical_batch.value)) < abs(np.log(biased.critical_batch.value / whole.critical_batch.value))
