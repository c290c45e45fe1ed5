from __future__ import annotations

from typing import Any

import pytest

from gapbench.sizing.decisions import program_key, stack_pays
from gapbench.suite import Component, Phase, PlannedRun, RunSpec, load_suite

RUNS = load_suite("quickstart").runs


def of(arm: str, seed: int = 0) -> RunSpec:
    run: PlannedRun = next(run for run in RUNS if run.labels.arm == arm and run.spec.seed == seed)
    return run.spec


SB = of("SB")


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 3.0},
        {"warmup": 0.1},
        {"warmup_start": 0.1},
        {"phases": (Phase(weight_decay=1.0, momentum=0.0),)},
        {"weight_decay": 0.0},
        {"seed": 4},
        {"init_seed": 4},
        {"order_seed": 4},
        {"split_seed": 4},
        {"fold": 2},
        {"optimizer": Component(name="sgd", options={"momentum": 0.5, "nesterov": False})},
    ],
)
def test_hyperparameters_and_seeds_may_differ_within_a_stack(change: dict[str, Any]) -> None:
    assert program_key(SB.model_copy(update=change)) == program_key(SB)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"ghost_batch_size": 4},
        {"updates": 3},
        {"evaluations": 3},
        {"precision": "bf16"},
        {"clip_norm": None},
        {"flip": True},
        {"weight_decay_on": "matrices"},
        {"keep_weights": (1.0,)},
        {"probes": ()},
        {"holdout": 0.1},
        {"train_examples": 3},
        {"optimizer": Component(name="sgd", options={"momentum": 0.9, "nesterov": True})},
        {"model": Component(name="mlp", options={"widths": [3]})},
    ],
)
def test_shapes_kernels_and_evaluations_must_be_the_same(change: dict[str, Any]) -> None:
    assert program_key(SB.model_copy(update=change)) != program_key(SB)


def test_a_stack_has_one_table_of_batches() -> None:
    def growing(*factors: float, updates: int) -> RunSpec:
        phases = tuple(Phase(start=index / len(factors), batch_size_factor=factor) for index, factor in enumerate(factors))
        return SB.model_copy(update={"phases": phases, "unramped_updates": 60, "updates": updates})

    later = growing(1.0, 1.0, 2.0, updates=50)
    other_rate = later.model_copy(
        update={"phases": tuple(phase.model_copy(update={"learning_rate_factor": 0.5}) for phase in later.phases)}
    )
    assert program_key(later) == program_key(other_rate)
    assert program_key(later) != program_key(growing(1.0, 2.0, 1.0, updates=50))


def test_arms_with_another_rate_share_a_program() -> None:
    assert program_key(of("LB")) == program_key(of("LB+LR", seed=3))
    assert program_key(of("LB")) != program_key(of("LB+LR+GBN"))
    assert {program_key(run.spec) for run in RUNS} == {program_key(of(arm)) for arm in {run.labels.arm for run in RUNS}}


def test_keys_are_hashable() -> None:
    assert len({program_key(SB), program_key(of("SB", 1))}) == 1


def test_stacks_pay_for_small_updates_of_dense_models() -> None:
    assert stack_pays(SB, "cpu")
    assert not stack_pays(of("LB"), "cpu")
    resnet = load_suite("cifar10", only="arm=SB,seed=0").runs[0].spec
    assert not stack_pays(resnet, "cpu")
    assert not stack_pays(resnet, "cuda")
    assert stack_pays(of("LB"), "cuda")
    assert not stack_pays(SB.model_copy(update={"model": Component(name="plugin")}), "cpu")
