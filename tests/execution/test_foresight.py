"""A suite is foreseen as the scheduler will hand it out: held against the real scheduler, with workers whose time is arithmetic."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gapbench import cost
from gapbench.core.events import Outcome
from gapbench.cost.calibration import Start
from gapbench.execution import foresight, jobs, packing, scheduler
from gapbench.execution.devices import Device
from gapbench.execution.jobs import Job, Slot
from gapbench.execution.notices import JobEnded, JobStarted
from gapbench.execution.resume import Pending
from gapbench.suite import load_suite

CPU = Device("cpu", "cpu", "a processor")
SPEC = load_suite("quickstart", only="arm=SB,seed=0").runs[0].spec
START = Start(outside_seconds=5.0, inside_seconds=1.0)
OUTSIDE, PROGRAM, OTHER = 0.25, 2.0, 0.5


def slots(count: int) -> list[Slot]:
    return [Slot(number, CPU, 1) for number in range(count)]


def pending(lengths: list[int], programs: list[int], updates: list[int]) -> list[Pending]:
    """Jobs of which the third of `lengths` takes that many seconds; the batch size stands for the program."""
    return [
        Pending(
            Job(
                (f"run-{number}",),
                (SPEC.model_copy(update={"batch_size": 8 + program, "time_limit_seconds": length, "updates": 100}),),
            ),
            None,
            update,
        )
        for number, (length, program, update) in enumerate(zip(lengths, programs, updates, strict=True))
    ]


def estimate_of(job: Job, _place: cost.Place) -> cost.Estimate:
    """A job whose train seconds are its time limit."""
    buckets = cost.Buckets(float(job.specs[0].time_limit_seconds), 0.0, OTHER)
    return cost.Estimate(100, 100, 1, 1.0, 100.0, buckets, OUTSIDE, PROGRAM, "measured")


@pytest.fixture
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "predict", estimate_of)
    monkeypatch.setattr(foresight, "start_of_worker", lambda _place: START)
    monkeypatch.setattr(foresight, "predicted_memory_mib", lambda *_: 100.0)


class Clockwork:
    """Stands in for the workers and their messages: whoever waits for one is taken to the time when it comes."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, object, dict[str, object] | None]] = []
        self._numbers = itertools.count()

    def add(self, at: float, worker: object, message: dict[str, object] | None) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), worker, message))

    def get(self, timeout: float) -> tuple[object, dict[str, object] | None]:
        self.now, _, worker, message = heapq.heappop(self._events)
        return worker, message


def really(items: list[Pending], places: list[Slot], monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[str, int, float]], float]:
    """Lets the scheduler hand out the jobs; returns (run, slot, time) of every start, and when the last one ended."""
    clockwork = Clockwork()
    ends: list[float] = [0.0]

    class Worker:
        def __init__(self, slot: Slot, *_: object) -> None:
            self.slot, self.item, self.ready, self.leaving, self.pid = slot, None, True, False, 0
            self.killed = False
            self.programs: set[int] = set()
            self.first = True

        @property
        def job(self) -> Job | None:
            return self.item.job if self.item else None

        def give(self, item: Pending, *, at_a_time: int = 1) -> None:
            self.item, self.taken = item, True
            spec = item.job.specs[0]
            seconds = OUTSIDE + item.share_left * spec.time_limit_seconds + OTHER
            seconds += (START.outside_seconds + START.inside_seconds) if self.first else 0.0
            seconds += 0.0 if spec.batch_size in self.programs else PROGRAM
            self.first = False
            self.programs.add(spec.batch_size)
            run_id = item.job.run_ids[0]
            clockwork.add(clockwork.now + seconds, self, {"kind": "ended", "outcomes": {run_id: "ok"}, "written": [run_id], "fit": True})

        def dismiss(self) -> None:
            if not getattr(self, "gone", False):
                self.gone = True
                clockwork.add(clockwork.now, self, None)

        def wait(self) -> int:
            return 0

        def close(self) -> None:
            pass

        def ask_to_stop(self) -> None:
            pass

        def kill(self) -> None:
            pass

    begun: list[tuple[str, int, float]] = []

    def observe(notice: object) -> None:
        if isinstance(notice, JobStarted):
            begun.append((notice.run_ids[0], notice.slot, clockwork.now))
        if isinstance(notice, JobEnded):
            ends.append(clockwork.now)

    stored = SimpleNamespace(outcome=lambda: None, state=lambda: Outcome.OK)
    monkeypatch.setattr(scheduler, "Worker", Worker)
    monkeypatch.setattr(scheduler, "predicted_memory_mib", lambda *_: 100.0)
    monkeypatch.setattr(scheduler, "resident_mib", lambda _pid: 100.0)
    running = scheduler.Scheduler(
        SimpleNamespace(run=lambda _run_id: stored, suite="small", path=None),  # type: ignore[arg-type]
        places,
        lambda _slot: None,  # type: ignore[arg-type,return-value]
        titles=lambda job: job.run_ids[0],
        observe=observe,
        free_mib=lambda: math.inf,
    )
    running._inbox = clockwork  # type: ignore[assignment]
    running.execute(items)
    return begun, max(ends)


@example(jobs=[(1, 0, 0), (1, 0, 25), (1, 1, 0), (1, 1, 0), (10, 0, 0), (17, 0, 0)], count=2)  # two slots free at the same time
@given(
    jobs=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3), st.sampled_from([0, 0, 0, 25, 50])), min_size=1, max_size=12),
    count=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_the_future_is_that_of_the_scheduler(jobs: list[tuple[int, int, int]], count: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        items = pending(*(list(column) for column in zip(*jobs, strict=True)))
        expected, wall = really(items, slots(count), monkeypatch)
        found = foresight.foresee(items, slots(count))
        assert found.wall_seconds == pytest.approx(wall)
        starts = [(job.pending.job.run_ids[0], job.slot, job.begins) for job in found.jobs]
        assert sorted((run, pytest.approx(at)) for run, _, at in starts) == sorted((run, at) for run, _, at in expected)


@example(jobs=[(9, 0, 0, 1, 100), (5, 0, 0, 2, 100), (5, 1, 0, 2, 100), (3, 0, 0, 4, 100)], gpus=1, count=2, asked=False)
@example(jobs=[(9, 0, 0, 1, 500), (5, 0, 0, 1, 500), (4, 1, 0, 1, 300)], gpus=1, count=2, asked=True)  # the third waits for no memory
@given(
    jobs=st.lists(
        st.tuples(
            st.integers(1, 50),
            st.integers(0, 3),
            st.sampled_from([0, 0, 0, 25, 50]),
            st.integers(1, 4),
            st.sampled_from([100, 300, 500, 2000]),
        ),
        min_size=1,
        max_size=12,
    ),
    gpus=st.integers(1, 2),
    count=st.integers(1, 4),
    asked=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_future_is_that_of_the_scheduler_where_slots_share_gpus(
    jobs: list[tuple[int, int, int, int, int]], gpus: int, count: int, asked: bool
) -> None:
    """Each job allows so many at a time on its GPU, itself included, and needs so much of its 1000 MiB."""
    devices = [Device(f"cuda:{number}", "cuda", "a GPU", f"GPU-{number}", 1000.0) for number in range(gpus)]
    places = [Slot(number, devices[number % gpus], 1, asked) for number in range(count * gpus)]
    lengths, programs, updates, limits, needs = ([*column] for column in zip(*jobs, strict=True))
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        monkeypatch.setattr(packing, "_at_a_time", lambda job: limits[int(job.run_ids[0].removeprefix("run-"))])
        monkeypatch.setattr(packing, "_gpu_mib", lambda job: needs[int(job.run_ids[0].removeprefix("run-"))])
        monkeypatch.setattr(cost, "idle_mib", lambda _kind: 50.0)
        items = pending(lengths, programs, updates)
        expected, wall = really(items, places, monkeypatch)
        found = foresight.foresee(items, places)
        assert found.wall_seconds == pytest.approx(wall)
        starts = [(job.pending.job.run_ids[0], job.slot, pytest.approx(job.begins)) for job in found.jobs]
        assert starts == expected
        for one in found.jobs:
            device = places[one.slot].device
            beside = [
                int(other.pending.job.run_ids[0].removeprefix("run-"))
                for other in found.jobs
                if places[other.slot].device == device and other.begins <= one.begins < other.ends
            ]
            assert asked or len(beside) <= min(limits[number] for number in beside)
            assert len(beside) == 1 or sum(needs[number] for number in beside) <= 900


@pytest.mark.usefixtures("arithmetic")
def test_one_slot_takes_the_sum_and_two_less_than_half_of_it_more_than_the_longest() -> None:
    items = pending([10, 20, 30], [0, 0, 0], [0, 0, 0])
    alone = foresight.foresee(items, slots(1))
    once = 3 * (OUTSIDE + OTHER)
    assert alone.wall_seconds == pytest.approx(60.0 + once + 6.0 + PROGRAM)
    assert alone.device_seconds == pytest.approx(60.0 + 3 * OTHER + START.inside_seconds + PROGRAM)
    both = foresight.foresee(items, slots(2))
    assert [(job.pending.job.run_ids[0], job.slot) for job in both.jobs] == [("run-2", 0), ("run-1", 1), ("run-0", 1)]
    assert both.wall_seconds == pytest.approx(30.0 + 2 * (OUTSIDE + OTHER) + 6.0 + PROGRAM)


@pytest.mark.usefixtures("arithmetic")
def test_a_run_that_goes_on_takes_what_is_left_of_it_and_comes_first() -> None:
    items = pending([100, 40], [0, 0], [0, 50])
    found = foresight.foresee(items, slots(1))
    assert [job.pending.job.run_ids[0] for job in found.jobs] == ["run-1", "run-0"]
    assert found.jobs[0].seconds == pytest.approx(20.0 + OTHER + START.inside_seconds + PROGRAM)


@pytest.mark.usefixtures("arithmetic")
def test_jobs_wait_for_memory() -> None:
    items = pending([10, 20], [0, 0], [0, 0])
    room = 150.0 + foresight.MEMORY_HEADROOM_MIB
    found = foresight.foresee(items, slots(2), free_mib=room)
    assert found.jobs[1].begins == pytest.approx(found.jobs[0].ends)
    assert foresight.foresee(items, slots(2), free_mib=10.0).wall_seconds == 0.0  # neither can ever begin


def test_two_jobs_of_which_each_needs_a_gpu_to_itself_train_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    monkeypatch.setattr(packing, "_at_a_time", lambda job: 1 if job.specs[0].time_limit_seconds == 10 else 2)
    gpu = Device("cuda:0", "cuda", "a GPU", "GPU-0", 80_000.0)
    found = foresight.foresee(pending([10, 10, 4, 4], [0, 0, 0, 0], [0, 0, 0, 0]), [Slot(number, gpu, 4) for number in range(2)])
    first, second, third, fourth = found.jobs
    assert second.begins == pytest.approx(first.ends)
    assert third.begins == pytest.approx(fourth.begins) == pytest.approx(second.ends)


def test_what_cannot_be_predicted_is_counted_and_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "start_of_worker", lambda _place: START)
    unknown: Callable[..., cost.Estimate] = lambda *_: cost.Estimate(1, 1, None, None, None, None, 0.0, 0.0, "unknown")  # noqa: E731
    monkeypatch.setattr(jobs, "predict", unknown)
    found = foresight.foresee(pending([1, 2], [0, 1], [0, 0]), slots(1))
    assert (found.unknown, found.device_seconds, dict(found.of_runs())) == (2, 0.0, {})


@pytest.mark.usefixtures("arithmetic")
def test_a_stack_shares_its_seconds_among_its_runs() -> None:
    one, two = pending([30, 30], [0, 0], [0, 0])
    stack = Pending(Job(("a", "b"), (one.job.specs[0], two.job.specs[0])), None, 0)
    found = foresight.foresee([stack], slots(1))
    assert found.jobs[0].seconds is not None
    assert found.of_runs() == dict.fromkeys(("a", "b"), (found.jobs[0].seconds / 2, "measured"))


def test_nothing_takes_no_time() -> None:
    assert foresight.foresee([], slots(2)).wall_seconds == 0.0


def test_each_job_is_predicted_as_if_it_were_alone() -> None:
    suite = load_suite("quickstart")
    place = cost.Place("cpu", "a processor", 2, 1, 2)
    known = jobs.Predictions(place)
    for run in suite.runs:
        job = Job((run.run_id,), (run.spec,))
        assert known.of(job) == cost.estimate(run.spec, place=place)


def test_seeds_share_a_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(jobs, "predict", lambda job, place: asked.append(job) or estimate_of(job, place))
    known = jobs.Predictions(cost.Place("cpu", "a processor", 2, 1, 2))
    for seed in range(4):
        known.of(Job((f"run-{seed}",), (SPEC.model_copy(update={"seed": seed, "init_seed": seed, "time_limit_seconds": 3}),)))
    assert len(asked) == 1
    two = SPEC.model_copy(update={"time_limit_seconds": 3})
    known.of(Job(("a", "b"), (two, two)))
    assert len(asked) == 2
