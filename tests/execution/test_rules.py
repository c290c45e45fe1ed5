"""Jobs share a GPU where it would idle, within its memory, the host's and the cores; the plan and the machine alone decide.

One rule says what starts next: pure, so that the scheduler, prices and the time left cannot differ.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapbench import cost
from gapbench.execution.devices import Device
from gapbench.execution.jobs import Demand, Job, Slot, place_of, plan_jobs, plan_slots
from gapbench.execution.rules import MEMORY_HEADROOM_MIB, Room, at_a_time, next_job, simulate, slots_at_once
from tests.small import make_model_spec

H100 = 80_000.0


def gpus(count: int = 1, memory_mib: float | None = H100) -> tuple[Device, ...]:
    return tuple(Device(f"cuda:{number}", "cuda", "a GPU", f"GPU-{number}", memory_mib) for number in range(count))


def job(model: str, batch_size: int, name: str = "run", replicas: int = 1) -> Job:
    return Job.of({f"{name}-{seed}": make_model_spec(model, batch_size, seed=seed) for seed in range(replicas)})


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
    need = cost.memory_mib(make_model_spec("resnet44", 128), device_kind="cuda")
    jobs = singles("resnet44", 128, 9)
    assert layout(jobs, gpus(memory_mib=2.01 * need / 0.9)) == TWO
    assert layout(jobs, gpus(memory_mib=1.99 * need / 0.9)) == ONE
    uneven = (*gpus(1), Device("cuda:1", "cuda", "a GPU", "GPU-1", 1.99 * need / 0.9))
    assert layout(jobs, uneven) == ["cuda:0", "cuda:1"]
    assert layout(jobs, gpus(memory_mib=None)) == ONE  # a part of a GPU, of unknown size


def test_the_memory_and_the_cores_of_the_host_are_bounds() -> None:
    need = cost.host_mib(make_model_spec("resnet44", 128))
    jobs = singles("resnet44", 128, 9)
    assert layout(jobs, memory_mib=2.01 * need / 0.8) == TWO
    assert layout(jobs, memory_mib=1.99 * need / 0.8) == ONE
    assert layout(jobs, gpus(2), memory_mib=2.01 * need / 0.8) == ["cuda:0", "cuda:1"]
    assert layout(jobs, cores=1) == ONE
    assert len(layout(singles("f1", 128, 9), cores=3)) == 3


def test_threads_are_shared_out_among_the_slots() -> None:
    slots = plan_slots(singles("resnet44", 128, 9), gpus(2), cores=16, memory_mib=1e6)
    assert {slot.threads for slot in slots} == {4}
    assert {slot.by_user for slot in slots} == {False}


def test_the_users_own_number_of_slots_wins() -> None:
    for jobs in (singles("resnet44", 128, 9), singles("wresnet16-4", 4096, 2)):
        assert layout(jobs, slots=1) == ONE
        assert len(layout(jobs, slots=6, memory_mib=1.0)) == 6
        assert all(slot.by_user for slot in plan_slots(jobs, gpus(), cores=16, memory_mib=1e6, slots=6))


def test_slots_follow_from_the_whole_plan_and_not_from_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["gapbench.cost.estimate"], "learned", lambda *_, **__: pytest.fail("asked what was timed"))
    runs = {f"run-{number}": make_model_spec("resnet44", 128, seed=number) for number in range(4)}
    assert layout(plan_jobs(runs, 1, "cuda")) == TWO


def test_stacks_are_not_split_for_slots_that_share_a_gpu() -> None:
    runs = {f"{batch_size}-{seed}": make_model_spec("f1", batch_size, seed=seed) for batch_size in (64, 128) for seed in range(5)}
    jobs = plan_jobs(runs, 1, "cuda")
    assert [one.replicas for one in jobs] == [5, 5]
    assert layout(jobs) == TWO


def test_a_place_knows_over_how_many_gpus_its_slots_are_spread() -> None:
    shared, apart = ([Slot(number, device, 8) for number, device in enumerate(devices)] for devices in (gpus(1) * 2, gpus(2)))
    assert (place_of(shared).devices, place_of(apart).devices) == (1, 2)
    assert place_of(shared).sharing() != place_of(apart).sharing()
    assert place_of([Slot(0, Device("cpu", "cpu", "a processor"), 1)]).devices == 1


# The rule.

CPU = Device("cpu", "cpu", "a processor")
SHARED = [Slot(number, gpus()[0], 4) for number in range(4)]
SMALL, MEDIUM, LARGE = Demand(1000.0, 4), Demand(1000.0, 2), Demand(30_000.0, 1)
"""Four, two and one of which train at a time."""


def starts(waiting: Sequence[Demand], running: dict[int, Demand], room: Room) -> list[tuple[int, int]]:
    """Returns (position, slot) of what starts, one after the other, until nothing more may."""
    left, busy, found = list(enumerate(waiting)), dict(running), []
    while (next_one := next_job([demand for _, demand in left], busy, room)) is not None:
        assert next_one.fits
        position, demand = left.pop(next_one.position)
        busy[next_one.slot.number] = demand
        found.append((position, next_one.slot.number))
    return found


@pytest.mark.parametrize(
    ("waiting", "beside", "admitted"),
    [
        (LARGE, [], True),
        (LARGE, [SMALL], False),
        (SMALL, [LARGE], False),
        (MEDIUM, [SMALL], True),
        (MEDIUM, [SMALL, SMALL], False),
        (SMALL, [MEDIUM, SMALL], False),
        (SMALL, [SMALL] * 3, True),
    ],
)
def test_no_more_train_beside_each_other_than_each_allows(waiting: Demand, beside: list[Demand], admitted: bool) -> None:
    running = {number + 1: demand for number, demand in enumerate(beside)}
    assert (next_job([waiting], running, Room(SHARED)) is not None) is admitted


def test_the_first_job_that_may_begin_begins_and_the_others_wait() -> None:
    room = Room(SHARED[:2])
    assert starts([LARGE, MEDIUM], {1: SMALL}, room) == [(1, 0)]
    assert starts([LARGE], {0: MEDIUM, 1: SMALL}, room) == []
    assert starts([LARGE, MEDIUM], {}, room) == [(0, 0)]
    assert starts([SMALL, SMALL], {}, Room(SHARED[:2], closed={0})) == [(0, 1)]


def test_where_the_user_chose_the_slots_only_memory_decides() -> None:
    def all_three(memory_mib: float | None) -> int:
        slots = [Slot(number, gpus(memory_mib=memory_mib)[0], 4, by_user=True) for number in range(3)]
        return len(starts([LARGE] * 3, {}, Room(slots)))

    assert all_three(3.01 * 30_000.0 / 0.9) == 3
    assert all_three(None) == 3  # a part of a GPU, of unknown size
    assert all_three(0.5 * 30_000.0) == 1  # an empty GPU takes anything: it says itself when it cannot


def test_workers_without_a_job_hold_memory_too() -> None:
    for idle, admitted in ((0, 2), (2, 1)):
        slots = [Slot(number, gpus(memory_mib=2.01 * 30_000.0 / 0.9)[0], 4, by_user=True) for number in range(2 + idle)]
        assert len(starts([LARGE] * 2, {}, Room(slots, closed=range(2, 2 + idle)))) == admitted


def test_on_a_cpu_a_job_waits_for_the_memory_that_others_are_yet_to_take() -> None:
    slots = [Slot(number, CPU, 1) for number in range(3)]
    need, free = Demand(100.0), MEMORY_HEADROOM_MIB + 150.0
    assert starts([need, need], {}, Room(slots, free_mib=free)) == [(0, 0)]
    assert starts([need], {0: need}, Room(slots, free_mib=free, held_mib={0: 60.0})) == [(0, 1)]
    assert starts([need], {0: need}, Room(slots, free_mib=free, held_mib={2: 60.0})) == [(0, 2)]  # its idle worker gives back what it holds
    assert starts([need, Demand(50.0)], {0: need}, Room(slots, free_mib=free)) == [(1, 1)]
    assert starts([Demand()] * 3, {}, Room(slots, free_mib=0.0)) == [(0, 0), (1, 1), (2, 2)]  # of unknown need


def test_on_a_cpu_a_job_that_does_not_fit_while_nothing_else_runs_never_will() -> None:
    room = Room([Slot(0, CPU, 1), Slot(1, CPU, 1)], free_mib=MEMORY_HEADROOM_MIB + 50.0)
    found = next_job([Demand(100.0), Demand(10.0)], {}, room)
    assert (found.position, found.fits) == (0, False)
    assert next_job([Demand(100.0)], {1: Demand(10.0)}, room) is None


def test_programs_are_measured_on_as_many_slots_as_they_train_on() -> None:
    slots = [Slot(number, gpus(2)[number % 2], 4) for number in range(8)]
    assert slots_at_once(SMALL, slots) == (0, 1, 2, 3, 4, 5, 6, 7)
    assert slots_at_once(MEDIUM, slots) == (0, 1, 2, 3)
    assert slots_at_once(LARGE, slots) == (0, 1)
    assert [at_a_time(one, slots[0], slots) for one in (SMALL, MEDIUM, LARGE)] == [4, 2, 1]
    on_cpu = [Slot(number, CPU, 1) for number in range(4)]
    assert slots_at_once(LARGE, on_cpu) == (0, 1, 2, 3)
    assert at_a_time(LARGE, on_cpu[0], on_cpu) == 4
    chosen = [Slot(number, gpus()[0], 4, by_user=True) for number in range(3)]
    assert at_a_time(LARGE, chosen[0], chosen) == 3


# A suite played through by it.


@given(
    jobs=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4), st.sampled_from([100, 300, 500, 2000])), max_size=12),
    count=st.integers(1, 4),
    over=st.integers(1, 2),
    by_user=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_played_through_every_job_runs_once_and_within_its_limits(
    jobs: list[tuple[int, int, int]], count: int, over: int, by_user: bool
) -> None:
    """Each job takes so long, allows so many at a time on its GPU and needs so much of its 1000 MiB."""
    slots = [Slot(number, gpus(over, 1000.0)[number % over], 1, by_user) for number in range(count * over)]
    demands = [Demand(need, limit) for _, limit, need in jobs]
    found = list(simulate(zip(range(len(jobs)), demands, strict=True), slots, lambda number, _slot: float(jobs[number][0])))
    assert sorted(one.item for one in found) == list(range(len(jobs)))
    assert [one.begins for one in found] == sorted(one.begins for one in found)
    for one in found:
        assert one.ends - one.begins == pytest.approx(jobs[one.item][0])
        at_once = [other for other in found if other.begins <= one.begins < other.ends]
        assert len({other.slot.number for other in at_once}) == len(at_once)
        beside = [other.item for other in at_once if other.slot.device == one.slot.device]
        assert by_user or len(beside) <= min(demands[number].at_a_time for number in beside)
        assert len(beside) == 1 or sum(demands[number].memory_mib for number in beside) <= 900


def test_two_jobs_of_which_each_needs_a_gpu_to_itself_train_one_after_the_other() -> None:
    jobs = [(10.0, Demand(at_a_time=1)), (10.0, Demand(at_a_time=1)), (4.0, Demand(at_a_time=2)), (4.0, Demand(at_a_time=2))]
    found = simulate(jobs, SHARED[:2], lambda seconds, _slot: seconds)
    assert [(one.begins, one.slot.number) for one in found] == [(0.0, 0), (10.0, 0), (20.0, 0), (20.0, 1)]


def test_what_runs_already_keeps_its_slot_busy() -> None:
    slots = [Slot(number, CPU, 1) for number in range(2)]
    found = simulate([(5.0, Demand())] * 3, slots, lambda seconds, _slot: seconds, running={1: (Demand(), 7.0)})
    assert [(one.begins, one.slot.number) for one in found] == [(0.0, 0), (5.0, 0), (7.0, 1)]
