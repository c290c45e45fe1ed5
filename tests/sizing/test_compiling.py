"""Compiling takes seconds to minutes: it is for runs that are long enough, and is decided without looking at a clock."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost.guess import COMPILE_SECONDS
from gapbench.sizing import worth_compiling
from gapbench.sizing.kinds import GPU_COMPILED_FROM
from gapbench.suite import load_suite
from gapbench.suite.runspec import AdaptiveBatch, Component, RunSpec

F1 = load_suite("mnist-f1", only="arm=SB,seed=0").runs[0].spec
DIGITS = load_suite("quickstart", only="arm=SB,seed=0").runs[0].spec


def compiles(spec: RunSpec, replicas: int = 1, device_kind: str = "cpu") -> bool:
    return worth_compiling(spec, replicas=replicas, device_kind=device_kind)


def test_on_a_cpu_long_runs_are_compiled_and_short_ones_are_not() -> None:
    assert F1.updates == 23_437
    assert compiles(F1)
    assert not compiles(F1.model_copy(update={"updates": 1_562}))
    assert not compiles(DIGITS)
    assert not compiles(DIGITS, replicas=8)
    assert compiles(DIGITS.model_copy(update={"updates": 10_000_000}))


def test_a_deep_network_must_train_longer() -> None:
    resnets = load_suite("resnet44-cifar10", only="arm=SB,seed=0").runs[0].spec
    epoch = resnets.model_copy(update={"updates": 50_000 // 128})
    assert compiles(resnets)
    assert compiles(epoch.model_copy(update={"updates": 2 * epoch.updates}))
    assert not compiles(epoch.model_copy(update={"updates": epoch.updates // 2}))


def test_each_size_of_batch_is_compiled_by_itself() -> None:
    """A run that is just long enough with one size is not with a ragged batch besides."""
    once = next(updates for updates in range(0, 23_437, 128) if updates and compiles(F1.model_copy(update={"updates": updates})))
    assert not compiles(F1.model_copy(update={"updates": once, "tail": "ragged", "train_examples": 60_001}))
    assert compiles(F1.model_copy(update={"updates": 2 * once, "tail": "ragged", "train_examples": 60_001}))


def test_sizes_that_are_decided_while_training_are_not_compiled() -> None:
    rule = AdaptiveBatch(
        exchange_rate=1.0, smallest=128, largest=1024, unit=128, decisions=8, measure_every=4, smoothing=0.9, largest_change=2.0
    )
    adaptive = F1.model_copy(update={"adaptive_batch": rule})
    assert not compiles(adaptive)
    assert not compiles(adaptive, device_kind="cuda")


def test_a_model_whose_size_nobody_knows_trains_as_it_is_on_a_cpu() -> None:
    assert not compiles(F1.model_copy(update={"model": Component(name="of a plugin")}))


def test_on_a_gpu_the_number_of_updates_decides() -> None:
    assert compiles(DIGITS.model_copy(update={"updates": GPU_COMPILED_FROM}), device_kind="cuda")
    assert not compiles(DIGITS.model_copy(update={"updates": GPU_COMPILED_FROM - 1}), device_kind="cuda")


def test_a_price_holds_what_compiling_takes_and_needs() -> None:
    short = F1.model_copy(update={"updates": 1_562})
    more = cost.estimate(F1).program_seconds - cost.estimate(short).program_seconds
    assert more == pytest.approx(6 * COMPILE_SECONDS)
    long_mib, short_mib = (cost.memory_mib(spec) for spec in (F1, short))
    assert 100 < long_mib - short_mib < 200
