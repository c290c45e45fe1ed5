"""Every program of a suite is measured once, on all slots, in bounded time; what cannot be measured is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gapbench import cost
from gapbench.core.errors import GapbenchError
from gapbench.cost import calibration
from gapbench.cost.parts import Parts, buckets
from gapbench.execution import Settings, calibrating, choose_devices, plan_layout
from gapbench.execution import measure as measure_suite
from gapbench.execution.calibrating import programs_of
from gapbench.execution.devices import Device
from gapbench.execution.executor import LocalProcesses, Message, Setup
from gapbench.execution.jobs import place_of
from gapbench.execution.measuring import fitted, measure
from gapbench.suite import load_suite
from gapbench.suite.moments import probe_updates
from gapbench.suite.runspec import RunSpec

CPU = choose_devices("cpu")
FAKE = (sys.executable, str(Path(__file__).parent / "fake_measuring.py"))


def specs_of(suite: str | Path, **selection: str) -> dict[str, RunSpec]:
    return {run.run_id: run.spec for run in load_suite(suite, **selection).runs}


class Measuring:
    """Measures the small suite (a stack and single runs) on two slots."""

    def __init__(self, path: Path) -> None:
        self.specs = specs_of(path)
        self.said: list[str] = []
        layout = plan_layout(self.specs, CPU, 2)
        self.place, self.jobs = place_of(layout.slots), layout.jobs

    def __call__(self) -> calibrating.Measured:
        return measure_suite(
            self.specs,
            list(self.specs),
            Settings(devices=CPU, slots=2),
            titles=lambda job: str(job.specs[0].batch_size),
            say=self.said.append,
            executor=lambda: LocalProcesses(FAKE),
        )

    def bases(self) -> set[str]:
        return {cost.estimate(job.specs[0], replicas=job.replicas, place=self.place).basis for job in self.jobs}


@pytest.fixture
def measuring(suite_file) -> Measuring:
    return Measuring(suite_file())


def test_programs_are_measured_once_however_many_runs_and_lengths_they_have() -> None:
    specs = specs_of("quickstart")
    layout = plan_layout(specs, CPU, 2)
    found = programs_of(layout.jobs, place_of(layout.slots))
    # SB and SB+4x epochs, LB and LB+LR, LB+LR+GBN and its longer sister: eight cells, five programs.
    assert len(found) == 5
    assert found[0].specs[0].ghost_batch_size == 16  # the longest


def test_later_plans_know_what_was_measured(measuring: Measuring) -> None:
    assert measuring.bases() == {"rough"}
    found = measuring()
    assert (found.programs, found.left_out) == (2, {})
    assert measuring.bases() == {"calibrated"}
    for job in measuring.jobs:
        entry = calibration.lookup(job.specs[0], measuring.place, replicas=job.replicas)
        assert entry is not None
        assert entry.measured is not None
        assert entry.measured.update_seconds == pytest.approx(1e-3 * job.specs[0].batch_size)
        assert entry.measured.program_seconds in (0.0, 1.0)
    start = calibration.start_of_worker(measuring.place)
    assert start.outside_seconds > 2.0
    assert start.inside_seconds == pytest.approx(2.0)
    assert calibration.base_of_worker(measuring.place) is not None


def test_what_is_to_come_is_said_before(measuring: Measuring) -> None:
    measuring()
    assert "2 programs on 2 slots at once" in measuring.said[0]
    assert "min at most" in measuring.said[0]
    assert [line[:5] for line in measuring.said[1:]] == ["[1/2]", "[2/2]"]


@pytest.mark.parametrize(("behavior", "words"), [("fail", "no such kernel"), ("die", "Killed by something"), ("hang", "longer than")])
def test_a_program_that_cannot_be_measured_is_left_out_and_the_others_are_not(
    measuring: Measuring, behavior: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"16": behavior}))
    monkeypatch.setattr(calibrating, "PROGRAM_SECONDS", 1.0)
    monkeypatch.setattr(calibrating, "EVALUATION_SECONDS", 0.01)
    found = measuring()
    assert found.programs == 1
    assert words in found.left_out["16"]
    assert measuring.bases() == {"rough", "calibrated"}


def test_programs_are_left_out_when_no_time_is_left(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "ALL_SECONDS", -1.0)
    found = measuring()
    assert found.programs == 0
    assert set(found.left_out.values()) == {"no time was left"}


def test_programs_that_are_too_slow_or_too_large_are_left_out(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "PROGRAM_SECONDS", 0.001)
    assert all("would take about" in reason for reason in measuring().left_out.values())
    monkeypatch.undo()
    monkeypatch.setattr(calibrating, "predicted_memory_mib", lambda *_: 1e9)
    assert all("MiB are free" in reason for reason in measuring().left_out.values())


def test_on_a_gpu_a_program_is_measured_on_as_many_slots_as_will_train_it(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large batch fills the GPU; of the small one two train beside each other."""
    monkeypatch.setattr(cost, "jobs_at_a_time", lambda spec, **_: 2 if spec.batch_size == 16 else 1)
    monkeypatch.setattr(cost, "stack_pays", lambda *_: False)
    monkeypatch.setattr("gapbench.execution.usable_cores", lambda: 8)
    given: dict[int, list[int]] = {}

    class Watched(LocalProcesses):
        def send(self, slot: int, message: Message) -> None:
            given.setdefault(message["specs"][0]["batch_size"], []).append(slot)
            super().send(slot, message)

    how = Settings(devices=(Device("cuda:0", "cuda", "a GPU", "GPU-0", 80_000.0),))
    found = measure_suite(
        measuring.specs,
        list(measuring.specs),
        how,
        titles=lambda job: str(job.specs[0].batch_size),
        say=print,
        executor=lambda: Watched(FAKE),
    )
    assert (found.programs, found.left_out) == (2, {})
    assert given == {16: [0, 1], 512: [0]}
    place = place_of(plan_layout(measuring.specs, how.devices).slots)
    for spec in measuring.specs.values():
        entry = calibration.lookup(spec, place, replicas=1)
        assert entry is not None
        assert entry.measured is not None
        assert entry.measured.program_seconds in (0.0, 1.0)  # what only a worker's first job takes is no part of it
    start = calibration.start_of_worker(place)
    assert start.inside_seconds == pytest.approx(2.0)


def test_a_process_that_cannot_start_is_an_error(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_REFUSES", "plugin p.py cannot be loaded")
    with pytest.raises(GapbenchError, match=r"plugin p\.py cannot be loaded"):
        measuring()


def test_long_evaluations_are_measured_on_fewer_examples() -> None:
    (job,) = plan_layout(specs_of("cifar10", only="arm=SB,seed=0"), CPU, 1).jobs
    cut = calibrating._with_few_tests(job, "cpu").specs[0]
    assert calibrating.FEWEST_TESTS <= cut.dataset.option("test_size") < 10_000
    (small,) = plan_layout(specs_of("quickstart", only="arm=LB,seed=0"), CPU, 1).jobs
    assert calibrating._with_few_tests(small, "cpu") == small


PARTS = Parts(
    begin_seconds=0.2,
    update_seconds=0.01,
    probe_seconds=0.004,
    evaluation_seconds=1e-3,
    example_seconds=2e-5,
    setup_seconds=0.05,
    program_seconds=0.0,
    outside_seconds=0.0,
)


@pytest.mark.parametrize("updates", [30, 100, 400])
def test_a_loop_shows_its_parts(updates: int) -> None:
    spec = next(iter(specs_of("quickstart", only="arm=SB,seed=0").values())).model_copy(update={"updates": updates, "evaluations": 1})
    stamps = [0.0]
    for done in range(1, updates):
        observed = done in probe_updates(updates)
        stamps.append(stamps[-1] + PARTS.update_seconds + observed * PARTS.probe_seconds + (done == 1) * PARTS.begin_seconds)
    found = fitted(spec, 1, buckets(PARTS, cost.work_of(spec)), stamps)
    for name, value in PARTS.model_dump().items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6), name


def test_without_stamps_and_in_the_shortest_loops_only_the_sum_is_known() -> None:
    spec = next(iter(specs_of("quickstart", only="arm=SB,seed=0").values())).model_copy(update={"updates": 3, "evaluations": 1})
    seconds = buckets(PARTS, cost.work_of(spec))
    for stamps in ([], [0.0, 0.214, 0.228]):
        found = fitted(spec, 1, seconds, stamps)
        assert buckets(found, cost.work_of(spec)).train == pytest.approx(seconds.train)
        assert found.probe_seconds == 0.0


def test_the_real_engine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of three and one large batch of digits: every part is there, and the timed loop is as long as it may be."""
    monkeypatch.setattr("gapbench.execution.measuring.LOOP_SECONDS", 0.05)
    setup = Setup("", "", "cpu", "cpu", "a processor", 1, None, str(tmp_path), True, None, (), {}, 60.0)
    for arm, seeds in (("SB", 3), ("LB", 1)):
        specs = [spec for spec in specs_of("quickstart", only=f"arm={arm}").values() if spec.seed < seeds]
        found = measure(specs, setup)
        parts = Parts.model_validate(found["parts"])
        assert parts.update_seconds > 0.0
        assert parts.example_seconds > 0.0
        assert parts.setup_seconds > 0.0
        assert found["peak_mib"] > 100.0
