"""Jobs share a GPU where it would idle, within its memory, the host's and the cores; the plan and the machine alone decide."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from gapbench import cost
from gapbench.execution import scheduler
from gapbench.execution.backend import free_device_memory
from gapbench.execution.devices import Device
from gapbench.execution.jobs import Job, Slot, place_of, plan_jobs, plan_slots
from gapbench.execution.packing import Packing
from gapbench.execution.resume import Pending
from gapbench.suite.runspec import Component, RunSpec

H100 = 80_000.0

MODELS = {
    "f1": Component(name="f1"),
    "c1": Component(name="c1"),
    "resnet44": Component(name="resnet", options={"depth": 44}),
    "wresnet16-4": Component(name="wresnet", options={"depth": 16, "width": 4}),
    "plugin": Component(name="plugin"),
}


def gpus(count: int = 1, memory_mib: float | None = H100) -> tuple[Device, ...]:
    return tuple(Device(f"cuda:{number}", "cuda", "a GPU", f"GPU-{number}", memory_mib) for number in range(count))


def spec(model: str, batch_size: int, seed: int = 0, updates: int = 1000) -> RunSpec:
    return RunSpec(
        dataset=Component(name="mnist" if model == "f1" else "cifar10"),
        model=MODELS[model],
        optimizer=Component(name="sgd", options={"momentum": 0.9}),
        batch_size=batch_size,
        ghost_batch_size=None,
        updates=updates,
        learning_rate=0.1,
        seed=seed,
        init_seed=seed,
        order_seed=seed,
        train_examples=50_000,
        reference_batch_size=128,
        reference_updates=updates,
        reference_learning_rate=0.1,
    )


def job(model: str, batch_size: int, name: str = "run", replicas: int = 1) -> Job:
    return Job(
        tuple(f"{name}-{number}" for number in range(replicas)), tuple(spec(model, batch_size, number) for number in range(replicas))
    )


def singles(model: str, batch_size: int, count: int) -> list[Job]:
    return [job(model, batch_size, f"{model}-{batch_size}-{number}") for number in range(count)]


def layout(jobs: Sequence[Job], devices: Sequence[Device] | None = None, **more: object) -> list[str]:
    """Returns the device of every slot."""
    values = {"cores": 16, "memory_mib": 1e6, **more}
    return [slot.device.name for slot in plan_slots(jobs, devices or gpus(), **values)]


ONE, TWO = ["cuda:0"], ["cuda:0", "cuda:0"]


@pytest.mark.parametrize(
    ("model", "batch_size", "expected"),
    [
        ("resnet44", 128, 2),
        ("resnet44", 4096, 1),
        ("c1", 32, 3),
        ("c1", 128, 1),
        ("c1", 4096, 1),
        ("wresnet16-4", 128, 1),
        ("f1", 128, 4),
        ("f1", 4096, 1),
        ("plugin", 128, 1),
    ],
)
def test_slots_of_a_gpu_follow_from_launches_and_work(model: str, batch_size: int, expected: int) -> None:
    assert layout(singles(model, batch_size, 9)) == expected * ["cuda:0"]


def test_a_stack_counts_by_its_own_work() -> None:
    few, many = ([job("f1", 128, f"stack-{number}", replicas) for number in range(4)] for replicas in (5, 32))
    assert layout(few) == TWO
    assert layout(many) == ONE


def test_the_kinds_that_share_decide_whatever_stands_beside_them() -> None:
    others = [*singles("resnet44", 4096, 9), *singles("plugin", 128, 3)]
    assert layout([*others, *singles("resnet44", 128, 3)]) == TWO
    assert layout([*others, *singles("resnet44", 128, 1)]) == ONE  # with whom would it share?


def test_there_are_never_more_slots_than_jobs() -> None:
    assert len(layout(singles("f1", 128, 3))) == 3
    assert layout(singles("resnet44", 128, 1)) == ONE
    assert layout(singles("resnet44", 128, 1), gpus(2)) == ONE
    assert layout(singles("resnet44", 128, 3), gpus(2)) == ["cuda:0", "cuda:1", "cuda:0"]
    assert layout([], gpus(2)) == ONE


def test_jobs_are_spread_over_gpus_before_they_share_one() -> None:
    assert layout(singles("resnet44", 128, 2), gpus(2)) == ["cuda:0", "cuda:1"]
    assert layout(singles("resnet44", 128, 8), gpus(2)) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert len(layout(singles("f1", 128, 40), gpus(8), cores=64)) == 32


def test_the_memory_of_the_smallest_gpu_is_the_bound() -> None:
    need = cost.memory_mib(spec("resnet44", 128), device_kind="cuda")
    assert need is not None
    jobs = singles("resnet44", 128, 9)
    assert layout(jobs, gpus(memory_mib=2.01 * need / 0.9)) == TWO
    assert layout(jobs, gpus(memory_mib=1.99 * need / 0.9)) == ONE
    uneven = (*gpus(1), Device("cuda:1", "cuda", "a GPU", "GPU-1", 1.99 * need / 0.9))
    assert layout(jobs, uneven) == ["cuda:0", "cuda:1"]
    assert layout(jobs, gpus(memory_mib=None)) == ONE  # a part of a GPU, of unknown size


def test_the_memory_and_the_cores_of_the_host_are_bounds() -> None:
    need = cost.host_mib(spec("resnet44", 128))
    assert need is not None
    jobs = singles("resnet44", 128, 9)
    assert layout(jobs, memory_mib=2.01 * need / 0.8) == TWO
    assert layout(jobs, memory_mib=1.99 * need / 0.8) == ONE
    assert layout(jobs, gpus(2), memory_mib=2.01 * need / 0.8) == ["cuda:0", "cuda:1"]
    assert layout(jobs, cores=1) == ONE
    assert len(layout(singles("f1", 128, 9), cores=3)) == 3


def test_threads_are_shared_out_among_the_slots() -> None:
    slots = plan_slots(singles("resnet44", 128, 9), gpus(2), cores=16, memory_mib=1e6)
    assert {slot.threads for slot in slots} == {4}
    assert {slot.asked for slot in slots} == {False}


def test_the_users_own_number_of_slots_wins() -> None:
    for jobs in (singles("resnet44", 128, 9), singles("wresnet16-4", 4096, 2)):
        assert layout(jobs, slots=1) == ONE
        assert len(layout(jobs, slots=6, memory_mib=1.0)) == 6
        assert all(slot.asked for slot in plan_slots(jobs, gpus(), cores=16, memory_mib=1e6, slots=6))


def test_slots_follow_from_the_whole_plan_and_not_from_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["gapbench.cost.estimate"], "learned", lambda *_, **__: pytest.fail("asked what was timed"))
    runs = {f"run-{number}": spec("resnet44", 128, number) for number in range(4)}
    assert layout(plan_jobs(runs, 1, "cuda")) == TWO


def test_stacks_are_not_split_for_slots_that_share_a_gpu() -> None:
    runs = {f"{batch_size}-{seed}": spec("f1", batch_size, seed) for batch_size in (64, 128) for seed in range(5)}
    jobs = plan_jobs(runs, 1, "cuda")
    assert [one.replicas for one in jobs] == [5, 5]
    assert layout(jobs) == TWO


def test_a_place_knows_over_how_many_gpus_its_slots_are_spread() -> None:
    shared, apart = ([Slot(number, device, 8) for number, device in enumerate(devices)] for devices in (gpus(1) * 2, gpus(2)))
    assert (place_of(shared).devices, place_of(apart).devices) == (1, 2)
    assert place_of(shared).sharing() != place_of(apart).sharing()
    assert place_of([Slot(0, Device("cpu", "cpu", "a processor"), 1)]).devices == 1


SHARED = [Slot(number, gpus()[0], 4) for number in range(4)]
SMALL, MEDIUM, LARGE = job("resnet44", 32, "small"), job("resnet44", 128, "medium"), job("resnet44", 4096, "large")
"""Four, two and one of which train at a time."""


def test_no_more_train_beside_each_other_than_each_allows() -> None:
    packing, slot = Packing(SHARED), SHARED[0]
    assert packing.admits(LARGE, slot, [])
    assert not packing.admits(LARGE, slot, [SMALL])
    assert not packing.admits(SMALL, slot, [LARGE])
    assert packing.admits(MEDIUM, slot, [SMALL])
    assert not packing.admits(MEDIUM, slot, [SMALL, SMALL])
    assert not packing.admits(SMALL, slot, [MEDIUM, SMALL])
    assert packing.admits(SMALL, slot, [SMALL] * 3)
    assert [packing.most(one, slot) for one in (SMALL, MEDIUM, LARGE)] == [4, 2, 1]
    assert [packing.width(one) for one in (SMALL, MEDIUM, LARGE)] == [1, 2, 4]


def test_where_the_user_asked_for_slots_only_memory_decides() -> None:
    need = cost.memory_mib(LARGE.specs[0], device_kind="cuda")
    assert need is not None

    def asked(memory_mib: float | None) -> tuple[Packing, Slot]:
        slots = [Slot(number, gpus(memory_mib=memory_mib)[0], 4, asked=True) for number in range(3)]
        return Packing(slots), slots[0]

    roomy, slot = asked(3.01 * need / 0.9)
    assert roomy.admits(LARGE, slot, [LARGE, LARGE])
    assert roomy.most(LARGE, slot) == 3
    tight, slot = asked(1.99 * need / 0.9)
    assert not tight.admits(LARGE, slot, [LARGE])
    tiny, slot = asked(0.5 * need)
    assert tiny.admits(LARGE, slot, [])  # an empty GPU takes anything: it says itself when it cannot
    unknown, slot = asked(None)
    assert unknown.admits(LARGE, slot, [LARGE, LARGE])


def test_workers_without_a_job_hold_memory_too() -> None:
    need = cost.memory_mib(LARGE.specs[0], device_kind="cuda")
    assert need is not None
    for idle, admitted in ((0, True), (2, False)):
        asked = [Slot(number, gpus(memory_mib=2.01 * need / 0.9)[0], 4, asked=True) for number in range(2 + idle)]
        assert Packing(asked).admits(LARGE, asked[0], [LARGE]) is admitted


def test_programs_are_measured_on_as_many_slots_as_they_train_on() -> None:
    slots = [Slot(number, gpus(2)[number % 2], 4) for number in range(8)]
    packing = Packing(slots)
    assert packing.places(SMALL) == (0, 1, 2, 3, 4, 5, 6, 7)
    assert packing.places(MEDIUM) == (0, 1, 2, 3)
    assert packing.places(LARGE) == (0, 1)
    on_cpu = [Slot(number, Device("cpu", "cpu", "a processor"), 1) for number in range(4)]
    assert Packing(on_cpu).places(LARGE) == (0, 1, 2, 3)
    assert (Packing(on_cpu).most(LARGE, on_cpu[0]), Packing(on_cpu).width(LARGE)) == (4, 1)


def test_a_slot_of_a_gpu_takes_the_first_job_that_may_begin_and_the_others_wait() -> None:
    running = scheduler.Scheduler(
        SimpleNamespace(),  # type: ignore[arg-type]
        SHARED[:2],
        lambda _slot: None,  # type: ignore[arg-type,return-value]
        titles=str,
        observe=lambda _notice: None,
    )
    running._waiting = [Pending(one, None, 0) for one in (LARGE, MEDIUM)]
    running._workers = {1: SimpleNamespace(job=SMALL, slot=SHARED[1])}  # type: ignore[dict-item]
    assert running._next(SHARED[0]).job is MEDIUM
    assert running._next(SHARED[0]) is None  # until the small one has ended
    running._workers = {}
    assert running._next(SHARED[0]).job is LARGE


def test_torch_gives_back_what_it_keeps_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("cuda"))
    free_device_memory("cpu")
    assert freed == []
    free_device_memory("cuda:0")
    assert freed == ["cuda"]
