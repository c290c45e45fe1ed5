"""Every program of a suite is measured once, on all slots, in bounded time; what cannot be measured is said."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gapbench import cost
from gapbench.core.errors import GapbenchError
from gapbench.cost import calibration
from gapbench.execution import Executor, LocalProcesses, Settings, calibrating, choose_devices, measure, plan_layout
from gapbench.execution.calibrating import programs_of
from gapbench.execution.devices import Device
from gapbench.execution.executor import Message
from gapbench.execution.jobs import Job, place_of
from gapbench.suite import load_suite
from gapbench.suite.runspec import RunSpec

CPU = choose_devices("cpu")
ON_CPU = Settings(devices=CPU, slots=2)


def specs_of(suite: str | Path, **selection: str) -> dict[str, RunSpec]:
    return {run.run_id: run.spec for run in load_suite(suite, **selection).runs}


def batch_size(job: Job) -> str:
    return str(job.specs[0].batch_size)


class Measuring:
    """Measures the small suite (a stack and single runs) on two slots."""

    def __init__(self, path: Path) -> None:
        self.specs = specs_of(path)
        self.said: list[str] = []
        layout = plan_layout(self.specs, CPU, 2)
        self.place, self.jobs = place_of(layout.slots), layout.jobs

    def __call__(
        self, how: Settings = ON_CPU, executor: Executor | None = None, say: Callable[[str], None] | None = None
    ) -> calibrating.Measured:
        return measure(self.specs, list(self.specs), how, titles=batch_size, say=say or self.said.append, executor=executor)

    def bases(self) -> set[str]:
        return {cost.estimate(job.specs[0], replicas=job.replicas, place=self.place).basis for job in self.jobs}


@pytest.fixture
def measuring(suite_file, fake_worker) -> Measuring:
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
    for job in measuring.jobs:  # four of its eight updates took 1.5 s
        found = cost.estimate(job.specs[0], replicas=job.replicas, place=measuring.place)
        assert found.buckets.train == pytest.approx(3.0, rel=0.1)
        assert found.buckets.evaluation > 0.0
    assert calibration.start_of_worker(measuring.place) != calibration.GUESSED_START


def test_what_is_to_come_is_said_before(measuring: Measuring) -> None:
    measuring()
    assert "2 programs on 2 slots at once" in measuring.said[0]
    assert "min at most" in measuring.said[0]
    assert [line[:5] for line in measuring.said[1:]] == ["[1/2]", "[2/2]"]


@pytest.mark.parametrize(
    ("behavior", "words"),
    [("raise", "the model has a hole"), ("exit", "ended with status 7"), ("stack-out-of-memory", "memory did not suffice")],
)
def test_a_program_that_cannot_be_measured_is_left_out_and_the_others_are_not(
    measuring: Measuring, behavior: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"1": behavior}))
    found = measuring()
    assert found.programs == 1
    assert words in found.left_out["16"]
    assert measuring.bases() == {"rough", "calibrated"}


def test_a_program_that_takes_too_long_is_given_up(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.2")
    monkeypatch.setattr(calibrating, "PROGRAM_SECONDS", 0.05)
    monkeypatch.setattr(calibrating, "EVALUATION_SECONDS", 0.0)
    assert all("longer than" in reason for reason in measuring().left_out.values())


def test_an_interrupt_ends_it(measuring: Measuring) -> None:
    with pytest.raises(KeyboardInterrupt):
        measuring(say=lambda _: os.kill(os.getpid(), signal.SIGINT))


def test_programs_are_left_out_when_no_time_is_left(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "ALL_SECONDS", -1.0)
    found = measuring()
    assert found.programs == 0
    assert set(found.left_out.values()) == {"no time was left"}


def test_programs_that_are_too_slow_or_too_large_are_left_out(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "PROGRAM_SECONDS", 0.001)
    assert all("would take about" in reason for reason in measuring().left_out.values())
    monkeypatch.undo()

    class Full(LocalProcesses):
        def free_mib(self) -> float:
            return 0.0

    assert all("MiB are free" in reason for reason in measuring(executor=Full()).left_out.values())


def test_on_a_gpu_a_program_is_measured_on_as_many_slots_as_will_train_it(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large batch fills the GPU; of the small one two train beside each other."""
    monkeypatch.setattr(cost, "jobs_at_a_time", lambda spec, **_: 2 if spec.batch_size == 16 else 1)
    monkeypatch.setattr("gapbench.sizing.stack_pays", lambda *_: False)
    monkeypatch.setattr("gapbench.execution.usable_cores", lambda: 8)
    given: dict[int, set[int]] = {}

    class Watched(LocalProcesses):
        def send(self, slot: int, message: Message) -> None:
            given.setdefault(message["specs"][0]["batch_size"], set()).add(slot)
            super().send(slot, message)

    how = Settings(devices=(Device("cuda:0", "cuda", "a GPU", "GPU-0", 80_000.0),))
    found = measuring(how, Watched())
    assert (found.programs, found.left_out) == (2, {})
    assert given == {16: {0, 1}, 512: {0}}
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


def test_the_real_engine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of three and one large batch of digits: every part is there."""
    monkeypatch.setattr(calibrating, "LOOP_SECONDS", 0.05)
    specs = specs_of("quickstart", only="arm=SB,seed=0,seed=1,seed=2") | specs_of("quickstart", only="arm=LB,seed=0")
    found = measure(specs, list(specs), Settings(devices=CPU, slots=1), titles=str, say=lambda _: None)
    assert (found.programs, found.left_out) == (2, {})
    layout = plan_layout(specs, CPU, 1)
    for job in layout.jobs:
        scales = calibration.lookup(job.specs[0], place_of(layout.slots), replicas=job.replicas).measured
        assert min(scales.train, scales.evaluation, scales.setup_seconds, scales.outside_seconds) > 0.0
    assert calibration.base_of_worker(place_of(layout.slots)) > 100.0
