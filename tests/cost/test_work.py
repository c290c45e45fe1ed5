"""What a job has to do is counted from its spec alone."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost.work import evaluated_examples
from gapbench.suite import load_suite

SB, LB = (load_suite("quickstart", only=f"arm={arm},seed=0").runs[0].spec for arm in ("SB", "LB"))


def test_an_evaluation_measures_the_test_set_and_as_many_training_examples() -> None:
    assert evaluated_examples(LB) == 897 + 897
    assert evaluated_examples(LB.model_copy(update={"train_examples": 500})) == 897 + 500
    held_out = LB.model_copy(update={"train_examples": 720, "holdout": 0.2})
    assert evaluated_examples(held_out) == 897 + 720 + 180
    assert evaluated_examples(held_out.model_copy(update={"test_evaluation": False})) == 720 + 180


def test_evaluations_before_the_last_part_and_the_last_one_measure_twice() -> None:
    last_only = cost.work_of(LB.model_copy(update={"updates": 1000, "evaluations": 1}))
    assert last_only.examples == 2 * (897 + 897) + 900  # all 900 training examples recalibrate
    five = cost.work_of(LB.model_copy(update={"updates": 1000, "evaluations": 5}))
    assert (five.evaluations, five.examples) == (5, 5 * (897 + 897) + (2 * 897 + 900))


def test_without_batch_norm_nothing_is_measured_twice() -> None:
    model = LB.model.model_copy(update={"options": {**LB.model.options, "norm": "none"}})
    once = cost.work_of(LB.model_copy(update={"model": model, "updates": 1000, "evaluations": 5}))
    assert (once.evaluations, once.examples) == (5, 5 * (897 + 897))


def test_short_runs_are_observed_in_most_of_their_updates() -> None:
    short, long = cost.work_of(LB), cost.work_of(SB)
    assert (short.updates, long.updates) == (52, 1687)
    assert 25 < short.observed <= 52
    assert 60 < long.observed < 100


@pytest.mark.parametrize("size", [0, 256])
def test_a_test_set_that_is_cut_is_counted_as_it_is_cut(size: int) -> None:
    cut = SB.dataset.model_copy(update={"options": {**SB.dataset.options, "test_size": size}})
    assert evaluated_examples(SB.model_copy(update={"dataset": cut})) == 2 * (size or 897)
