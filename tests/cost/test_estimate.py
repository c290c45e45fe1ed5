from __future__ import annotations

import pytest

from gapbench import catalog, cost
from gapbench.suite import RunSpec, load_suite

SB = load_suite("quickstart", only="arm=SB,seed=0").runs[0].spec


def test_work_is_counted() -> None:
    weights = 64 * 128 + 2 * 128 * 128 + 128 * 10
    assert cost.estimate(SB).parameters == weights + 10 + 6 * 128
    assert cost.training_flops_per_update(SB) == 6.0 * weights * 16


def test_an_optimizer_that_computes_two_gradients_an_update_is_priced_for_both() -> None:
    catalog.optimizers().add("twice", catalog.optimizers()["sgd"].model_copy(update={"name": "twice", "gradients_per_update": 2}))
    once, twice = SB, SB.model_copy(update={"optimizer": SB.optimizer.model_copy(update={"name": "twice"})})
    assert cost.training_flops_per_update(twice) == 2 * cost.training_flops_per_update(once)
    assert cost.estimate(twice).seconds > cost.estimate(once).seconds


def test_seconds_are_a_guess_where_nothing_was_timed() -> None:
    rough = cost.estimate(SB)
    assert rough.basis == "rough"
    assert rough.seconds == rough.buckets.total > 0


def test_memory_grows_with_batch_and_replicas() -> None:
    wide = load_suite("mnist", only="arm=LB,seed=0").runs[0].spec
    small, large, stack = (
        found.memory_mib
        for found in (cost.estimate(wide.model_copy(update={"batch_size": 128})), cost.estimate(wide), cost.estimate(wide, replicas=3))
    )
    assert 750 < small < large < stack


def of(suite: str, batch_size: int, ghost: int | None = None) -> RunSpec:
    spec = load_suite(suite, only="arm=SB,seed=0").runs[0].spec
    return spec.model_copy(update={"batch_size": batch_size, "ghost_batch_size": ghost, "updates": 50})  # too short to be compiled


@pytest.mark.parametrize(
    ("suite", "batch_size", "ghost", "measured"),
    [
        ("mnist", 64, None, 781),
        ("mnist", 4096, None, 1027),
        ("mnist", 4096, 128, 976),
        ("cifar10", 16, None, 1545),
        ("cifar10", 128, None, 1942),
    ],
)
def test_memory_is_near_what_a_worker_held_at_its_peak(suite: str, batch_size: int, ghost: int | None, measured: float) -> None:
    """Peaks of F1 and ResNet-44 in processes of their own that held 620 MiB without data; with few examples, the rest of them added."""
    held = cost.held_mib(of(suite, batch_size, ghost), replicas=1, device_kind="cpu")
    assert 620.0 + held == pytest.approx(measured, rel=0.15)


def test_a_pool_that_stays_on_the_disk_counts_only_by_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = of("cifar10", 128)
    resident = cost.held_mib(spec, replicas=1, device_kind="cpu")
    images = 60_000 * (32 * 32 * 3 + 8 + 40 * 40 * 3 + 8) / 2**20
    monkeypatch.setattr("gapbench.cost.memory.total_memory_mib", lambda: 200.0)
    streamed = cost.held_mib(spec, replicas=1, device_kind="cpu")
    assert resident - streamed == pytest.approx(images - 2 * 2048 * 32 * 32 * 3 / 2**20)


def test_sizes_are_those_of_the_crops() -> None:
    whole = of("cifar10", 128)
    cropped = whole.model_copy(update={"crop_padding": 0, "crop_size": 16})
    flops = [cost.training_flops_per_update(spec) for spec in (whole, cropped)]
    assert flops[1] == pytest.approx(flops[0] / 4, rel=0.01)
