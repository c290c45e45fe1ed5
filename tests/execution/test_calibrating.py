"""Every program of a suite is measured once, on all slots, in bounded time; what cannot be measured is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gapbench import cost
from gapbench.core.errors import GapbenchError
from gapbench.cost import calibration
from gapbench.cost.calibration import Scales
from gapbench.cost.guess import Guess
from gapbench.execution import Settings, calibrating, choose_devices, plan_layout
from gapbench.execution import measure as measure_suite
from gapbench.execution.calibrating import programs_of
from gapbench.execution.devices import Device
from gapbench.execution.executor import LocalProcesses, Message, Setup
from gapbench.execution.jobs import place_of
from gapbench.execution.measuring import measure, scales_of
from gapbench.suite import load_suite
from gapbench.suite.runspec import RunSpec

CPU = choose_devices("cpu")
ON_CPU = Settings(devices=CPU, slots=2)
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

    def __call__(self, how: Settings = ON_CPU, executor: type[LocalProcesses] = LocalProcesses) -> calibrating.Measured:
        title, where = lambda job: str(job.specs[0].batch_size), lambda: executor(FAKE)
        return measure_suite(self.specs, list(self.specs), how, titles=title, say=self.said.append, executor=where)

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
        found = calibration.lookup(job.specs[0], measuring.place, replicas=job.replicas).measured
        assert found.train == pytest.approx(job.specs[0].batch_size)
        assert found.program_seconds in (0.0, 1.0)  # what only a worker's first job takes is no part of it
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
    monkeypatch.setattr(calibrating, "free_memory_mib", lambda: 0.0)
    assert all("MiB are free" in reason for reason in measuring().left_out.values())


def test_on_a_gpu_a_program_is_measured_on_as_many_slots_as_will_train_it(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large batch fills the GPU; of the small one two train beside each other."""
    monkeypatch.setattr(cost, "jobs_at_a_time", lambda spec, **_: 2 if spec.batch_size == 16 else 1)
    monkeypatch.setattr("gapbench.sizing.stack_pays", lambda *_: False)
    monkeypatch.setattr("gapbench.execution.usable_cores", lambda: 8)
    given: dict[int, list[int]] = {}

    class Watched(LocalProcesses):
        def send(self, slot: int, message: Message) -> None:
            given.setdefault(message["specs"][0]["batch_size"], []).append(slot)
            super().send(slot, message)

    how = Settings(devices=(Device("cuda:0", "cuda", "a GPU", "GPU-0", 80_000.0),))
    found = measuring(how, Watched)
    assert (found.programs, found.left_out) == (2, {})
    assert given == {16: [0, 1], 512: [0]}
    place = place_of(plan_layout(measuring.specs, how.devices).slots)
    assert all(calibration.lookup(spec, place, replicas=1).measured for spec in measuring.specs.values())


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


GUESS = Guess(update_seconds=0.01, probe_seconds=0.004, evaluation_seconds=1e-3, example_seconds=2e-5)


def loop(updates: int, factor: float, begin: float) -> tuple[cost.Work, cost.Buckets]:
    """A loop whose updates take `factor` times what is guessed, and which takes `begin` seconds more, once."""
    work = cost.Work(updates=updates, observed=updates // 2, evaluations=1, examples=1000)
    return work, cost.Buckets(factor * GUESS.train(work) + begin, 2.0 * GUESS.evaluation(work), 0.05)


def test_two_loops_say_what_an_update_takes_whatever_a_job_takes_once() -> None:
    """A slow program makes one loop, and a disturbed one counts as a whole."""
    for loops in ([loop(10, 3.0, 0.5), loop(400, 3.0, 0.5)], [loop(3, 3.0, 0.0)], [loop(10, 3.0, 90.0), loop(400, 3.0, 0.0)]):
        assert scales_of(GUESS, loops) == pytest.approx({"train": 3.0, "evaluation": 2.0, "setup_seconds": 0.05})


def test_the_real_engine_is_measured(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of three and one large batch of digits: every part is there, and the timed loop is as long as it may be."""
    monkeypatch.setattr("gapbench.execution.measuring.LOOP_SECONDS", 0.05)
    for arm, seeds in (("SB", 3), ("LB", 1)):
        specs = [spec for spec in specs_of("quickstart", only=f"arm={arm}").values() if spec.seed < seeds]
        found = measure(specs, setup)
        scales = Scales.model_validate(found["scales"])
        assert min(scales.train, scales.evaluation, scales.setup_seconds) > 0.0
        assert found["peak_mib"] > 100.0
