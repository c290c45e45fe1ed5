"""Timing: what is counted and what is not. The clock is a made one; nothing here depends on speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from gapbench.bench import measure
from gapbench.bench.cases import CASES
from gapbench.bench.measure import measure_peaks, time_loop, time_together, traffic_numbers, work_of
from gapbench.bench.programs import LATE

CPU = torch.device("cpu")


class Clock:
    """Every update takes a second, the first ten, building five."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


class Loop:
    form = "made up"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        clock.seconds += 5.0

    def run(self) -> Iterator[int]:
        self.clock.seconds += 9.0
        while True:
            self.clock.seconds += 1.0
            yield 7


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", clock.perf_counter)
    return clock


def test_the_first_update_and_the_warm_up_do_not_count(clock, tiny):
    found = time_loop(lambda: Loop(clock), tiny, CPU, seconds=4.0)
    assert found.first_update_seconds == 15.0
    assert (found.updates, found.examples, found.seconds) == (4, 28, 4.0)
    assert found.event_seconds is None
    assert found.form == "made up"
    assert clock.seconds == 15.0 + 1.0 + 4.0


def test_a_window_has_two_updates_however_slow_they_are(clock, tiny):
    assert time_loop(lambda: Loop(clock), tiny, CPU, seconds=0.1).updates == measure.FEWEST_UPDATES["cpu"]


def test_windows_of_ours_lie_late_in_a_long_run(tiny, build):
    ours = build(tiny)
    found = time_loop(lambda: ours, tiny, CPU, seconds=0.0)
    assert ours.sessions[0].update >= LATE + 2 + found.updates


def test_whole_runs_take_turns_and_each_is_timed_from_its_first_update_to_its_last(tiny, build, monkeypatch):
    whole = replace(tiny, updates=12)
    orders = []

    def watched(name):
        loop = build(whole, "ours with evaluation")
        run = loop.run

        def noted():
            for examples in run():
                orders.append((name, loop.sessions[0].update))
                yield examples

        loop.run = noted
        return loop

    monkeypatch.setattr(measure, "TURN_SECONDS", 0.0)  # turns of one update
    first, second = time_together([lambda: watched("a"), lambda: watched("b")], whole, CPU)
    assert (first.updates, second.updates) == (12, 12)
    assert first.examples == second.examples == 12 * whole.batch_size
    assert first.seconds > 0.0
    assert orders[-24:] == [(name, update) for update in range(1, 13) for name in ("ab" if update % 2 else "ba")]


def test_only_whole_runs_of_ours_take_turns(clock, tiny):
    with pytest.raises(TypeError, match="only whole runs"):
        time_together([lambda: Loop(clock)], tiny, CPU)
    with pytest.raises(TypeError, match="only the engine's own loops"):
        time_together([lambda: Loop(clock)], replace(tiny, updates=12), CPU)


@pytest.mark.parametrize(
    ("name", "megabytes", "gigaflops"),
    [
        ("resnet44", 13.7, 0.584), ("c1", 1.28, 0.1754), ("f1", 0.0749, 0.00873),
        ("roofline-wresnet16-4-cuda", 18.1, 2.52), ("roofline-vgg16-cuda", 7.8, 1.88),
    ],
)  # fmt: skip
def test_the_work_of_an_image_is_what_was_worked_out_by_hand(name, megabytes, gigaflops):
    """ResNet-44: M = 440,000 inputs, N = 430,000 outputs and norms, 200,704 residual sums an image; 6.86 million numbers of two bytes."""
    work = work_of(CASES[name].task, "bf16", "cuda")
    assert work.bytes_per_example == pytest.approx(1e6 * megabytes, rel=0.01)
    assert work.flops_per_example == pytest.approx(1e9 * gigaflops, rel=0.01)


def test_on_a_cpu_there_is_no_bandwidth_roof():
    assert work_of(CASES["f1"].task, "fp32", "cpu").bytes_per_example is None


def test_the_traffic_of_a_dense_layer_by_hand(tiny_mlp):
    # 16 -> 16 (first: no gradient of the inputs), norm of 16, 16 -> 10.
    assert traffic_numbers(tiny_mlp) == (2 * 16 + 3 * 16) + 8 * 16 + (3 * 16 + 3 * 10)


def test_peaks_are_measured_in_every_precision(monkeypatch):
    monkeypatch.setattr(measure, "MATRIX", {"cpu": 16})
    monkeypatch.setattr(measure, "PEAK_SECONDS", 0.001)
    peaks = measure_peaks(CPU)
    assert set(peaks) == {"flops fp32", "flops bf16"}
    assert min(peaks.values()) > 0
