"""What a job has to do is counted from its spec alone."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost.guess import evaluated_examples
from gapbench.suite import load_suite
from gapbench.suite.runspec import Component, RunSpec

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


def looking(**options: object) -> RunSpec:
    return LB.model_copy(update={"probes": (Component.model_validate(options),), "keep_weights": (0.5, 1.0)})


def test_probes_that_ask_for_the_loss_are_counted_at_each_of_their_looks() -> None:
    plain = cost.work_of(LB).examples
    kept = cost.work_of(looking(name="noise_scale", options={"examples": 100})).examples
    assert kept - plain == 2 * 4 * 100
    thrice = cost.work_of(looking(name="noise_scale", options={"examples": 100, "at": [0.0, 0.1, 1.0]})).examples
    assert thrice - plain == 3 * 4 * 100
    at_most = cost.work_of(looking(name="noise_scale", options={"examples": 10**6})).examples
    assert at_most - plain == 2 * 4 * LB.train_examples


def test_a_look_costs_what_its_options_ask_for() -> None:
    def looks(**options: int) -> int:
        return cost.work_of(looking(name="landscape", options={"examples": 10, **options})).examples

    assert looks(directions=300) - looks(directions=200) == 2 * 2 * 100 * 10
    assert looks(directions=200) == looks(), "what is not named has its default"


def test_what_looks_at_one_replica_at_a_time_costs_a_stack_more() -> None:
    spec, plain = looking(name="hessian", options={"examples": 10}), cost.work_of(LB).examples
    alone, together = (cost.work_of(spec, replicas=replicas).examples - plain for replicas in (1, 4))
    assert together == 4 * alone > 0
    spec = looking(name="landscape")
    assert cost.work_of(spec, replicas=4) == cost.work_of(spec)


def test_a_probe_of_a_plugin_that_is_not_loaded_costs_nothing_that_is_known() -> None:
    assert cost.work_of(looking(name="of a plugin")) == cost.work_of(LB)
