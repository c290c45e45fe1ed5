"""Views say what is going on, on any width, in a terminal and without one."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gapbench.console import LineView, LiveView, view, words
from gapbench.console.tracker import Tracker
from gapbench.core.outcome import Outcome
from gapbench.execution import Begun, JobEnded, JobProgressed, JobStarted, Said

BEGUN = Begun(runs=4, done=2, slots=2, threads=1, devices=("cpu",), work={"a": 0.2, "b": 0.2, "c": 0.3, "d": 0.3})


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tracker(clock):
    return Tracker(now=clock)


def test_the_fraction_done_counts_ended_and_running_jobs_by_their_work(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobStarted(1, "LB", ("c",), 10, 0)):
        tracker.take(notice)
    assert tracker.fraction == 0.0
    tracker.take(JobProgressed(0, 50, 100, 1000.0, (0.5, 0.7)))
    assert tracker.fraction == pytest.approx(0.2)
    tracker.take(JobEnded(1, "LB", {"c": Outcome.OK}))
    assert tracker.fraction == pytest.approx(0.5)
    assert tracker.slots[0].accuracy == pytest.approx(0.6)


def test_the_time_left_comes_from_the_speed_so_far(tracker, clock):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobProgressed(0, 0, 100, 0.0, ())):
        tracker.take(notice)
    assert tracker.seconds_left is None
    clock.seconds = 10.0
    tracker.take(JobProgressed(0, 50, 100, 1000.0, ()))
    assert tracker.slots[0].seconds_left == pytest.approx(10.0)
    assert tracker.seconds_left == pytest.approx(40.0)


def test_work_that_a_checkpoint_has_done_took_no_time(tracker, clock):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 50), JobProgressed(0, 50, 100, 0.0, ())):
        tracker.take(notice)
    assert tracker.fraction == pytest.approx(0.2)
    clock.seconds = 10.0
    tracker.take(JobProgressed(0, 75, 100, 1000.0, ()))
    assert tracker.seconds_left == pytest.approx(70.0)  # a tenth in ten seconds, seven tenths to go


def test_a_job_that_goes_back_to_the_queue_leaves_its_slot(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobEnded(0, "SB × 2", {})):
        tracker.take(notice)
    assert tracker.slots == {}
    assert tracker.runs_ended == 0


NOTICES = (
    BEGUN,
    Said("memory did not suffice"),
    JobStarted(0, "[SB] × 2", ("a", "b"), 1687, 0),
    JobStarted(1, "LB seed 3", ("c",), 52, 26),
    JobProgressed(0, 800, 1687, 12345.0, (0.9, None)),
    JobEnded(1, "LB seed 3", {"c": Outcome.DIVERGED}, "the loss was not finite"),
)


def shown(width: int, height: int = 24) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    with LiveView(console) as live:
        for notice in NOTICES:
            live(notice)
        with console.capture() as capture:
            console.print(live._render())
    return re.sub(r"\r|\x1b\[[0-9;?]*[A-Za-z]", "", capture.get())


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 240])
def test_the_live_table_fits_any_width(width):
    lines = shown(width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "800/1,687" in "".join(lines)


def test_the_live_table_shows_updates_rate_accuracy_and_runs():
    text = shown(100)
    for part in ("[SB] × 2", "800/1,687", "12.3k/s", "90.0 %", "1/4 runs", "1 not ok"):
        assert part in text
    assert "LB seed 3" not in text


def test_many_slots_do_not_outgrow_the_screen():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=12)
    with LiveView(console) as live:
        live(BEGUN)
        for slot in range(64):
            live(JobStarted(slot, f"job {slot}", ("a",), 10, 0))
        with console.capture() as capture:
            console.print(live._render())
    assert len(capture.get().splitlines()) <= 12
    assert "and 58 more" in capture.get()


def test_lines_say_how_every_job_ended():
    out = io.StringIO()
    lines = LineView(Console(file=out, width=40))
    for notice in NOTICES:
        lines(notice)
    assert out.getvalue().splitlines() == [
        "training 4 runs (2 done before) on cpu, 2 slots with 1 thread",
        "memory did not suffice",
        "[1/4] LB seed 3: diverged: the loss was not finite",
    ]


def test_a_long_silence_is_broken(monkeypatch):
    monkeypatch.setattr("gapbench.console.live.QUIET_SECONDS", -1.0)
    out = io.StringIO()
    lines = LineView(Console(file=out, width=200))
    for notice in NOTICES[:5]:
        lines(notice)
    assert "[SB] × 2: update 800 of 1,687, test accuracy 90.0 %" in out.getvalue()


def test_the_view_follows_the_console():
    assert isinstance(view(Console(file=io.StringIO())), LineView)
    assert isinstance(view(Console(file=io.StringIO(), force_terminal=True)), LiveView)


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (0, "0 s", "0:00"),
        (0.2, "< 1 s", "0:00"),
        (59.7, "60 s", "1:00"),
        (61, "1 min 01 s", "1:01"),
        (3600, "1 h 00 min", "1:00:00"),
        (7500, "2 h 05 min", "2:05:00"),
        (360000, "4 d 4 h", "100:00:00"),
        (None, "", "-:--"),
    ],
)
def test_durations_read_well(seconds, text, short):
    assert words.duration(seconds) == text
    assert words.clock(seconds) == short


def test_counts_sizes_and_rates_read_well():
    assert [words.count(1, "run"), words.count(1500, "run"), words.count(2, "entry", "entries")] == ["1 run", "1,500 runs", "2 entries"]
    assert [words.size(512), words.size(1536), words.size(3 << 30)] == ["512 B", "1.5 KiB", "3.0 GiB"]
    assert [words.mebibytes(None), words.mebibytes(350.4), words.mebibytes(2048)] == ["?", "350 MiB", "2.0 GiB"]
    assert [words.rate(950), words.rate(12345), words.rate(2.5e6)] == ["950/s", "12.3k/s", "2.50M/s"]
    assert words.percent(0.9784) == "97.8 %"


def test_interrupted_runs_have_not_ended(tracker):
    for notice in (BEGUN, JobStarted(0, "SB × 2", ("a", "b"), 100, 0), JobEnded(0, "SB × 2", {"a": Outcome.INTERRUPTED, "b": Outcome.OK})):
        tracker.take(notice)
    assert tracker.runs_ended == 1
    assert tracker.fraction == pytest.approx(0.2)
