"""Cases are what they say, and what is for a GPU can be built and trained, in small, without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gapbench import cost
from gapbench.bench import CASES
from gapbench.bench.cases import PREDICTED, TRAINED, Case, Side, Task
from gapbench.bench.measure import gate, work_of
from gapbench.suite.batches import evaluations_of

CPU = torch.device("cpu")

CUDA = {name: case for name, case in CASES.items() if case.device == "cuda"}


@pytest.mark.parametrize(("name", "examples", "epochs"), [("probes-f1", 60_000, 50), ("probes-cuda", 50_000, 100)])
def test_a_run_that_is_shorter_than_a_recipes_has_its_share_of_evaluations(name: str, examples: int, epochs: int) -> None:
    task = CASES[name].task
    short = task.specs("fp32")[0]
    updates = examples * epochs // task.batch_size
    often = evaluations_of(reference_updates=updates, reference_batch_size=128, test_examples=10_000, train_evaluation_examples=10_000)
    long = short.model_copy(update={"train_examples": examples, "updates": updates, "evaluations": often})
    share, whole = (cost.work_of(run).examples / run.updates for run in (short, long))
    assert share == pytest.approx(whole, rel=0.15)


def small(task: Task) -> Task:
    """The same on very small batches, with ghosts and micro-batches where there were some."""
    ghosts = {"ghost_batch_size": 2 if task.ghost_batch_size else None, "micro_batch_size": 2 if task.micro_batch_size else None}
    return replace(
        task, batch_size=4, **ghosts, replicas=min(2, task.replicas), examples=8, test_examples=4, updates=2 if task.updates else None
    )


def on_cpu(side: Side) -> Side:
    """Half precision without a GPU is emulated, operation by operation."""
    return replace(side, precision="bf16") if side.precision == "fp16" else side


SIDES = [
    pytest.param(case, on_cpu(side), id=f"{name}: {side.name}") for name, case in CUDA.items() if case.suite is None for side in case.sides
]


@pytest.mark.parametrize(("case", "side"), SIDES)
def test_every_side_for_a_gpu_trains_in_small_without_one(build: Callable[..., Any], case: Case, side: Side) -> None:
    task = small(case.task)
    loop = build(task, side.program, side.precision)
    steps = loop.run()
    assert [next(steps) for _ in range(2)] == [task.examples_per_update] * 2
    assert loop.form


@pytest.mark.parametrize("case", [case for case in CUDA.values() if case.suite is None], ids=lambda case: case.name)
def test_the_roofline_of_every_gpu_case_is_known(case: Case) -> None:
    work = work_of(case.task, "bf16", "cuda")
    assert work.flops_per_example is not None
    assert work.bytes_per_example is not None
    assert 0.0 < work.bytes_per_example < 1e9


@pytest.mark.parametrize("name", ["roofline-wresnet16-4-cuda", "roofline-vgg16-cuda"])
def test_the_wide_and_the_deep_network_pass_the_gate(name: str) -> None:
    case = CASES[name]
    task = replace(small(case.task), batch_size=8, examples=16)
    (found,) = gate(replace(case, task=task), CPU)
    assert found.difference < found.tolerance


def test_the_sides_of_a_suite_are_what_it_takes_and_what_it_was_predicted_to() -> None:
    for case in CASES.values():
        assert (case.suite is not None) == ({side.program for side in case.sides} == {TRAINED, PREDICTED})
